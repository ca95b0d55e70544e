package pipeline

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errAway = errors.New("the database is away")

// row is a due row in tests, and what comes of it.
type row int

// ID implements Row.
func (r row) ID() string { return strconv.Itoa(int(r)) }

// pile is a group's rows in tests: what is due, what was recorded.
type pile struct {
	mu       sync.Mutex
	due      []row
	recorded [][]row // batches
	claims   int
	now, max int // in flight
	takes    time.Duration
	limit    int
	careful  bool
	pause    time.Duration
	refuse   func(batch []row) error

	// What is to happen first, if not nil.
	onClaim func(n int, busy map[string]bool) error
	onDo    func(row)
	onLearn func()
	// onClaimed is told of what was claimed.
	onClaimed func([]row)
}

func (p *pile) pipeline() *Pipeline[row, row] {
	return &Pipeline[row, row]{Work: p, Ahead: Ahead, Unavailable: func(err error) bool { return errors.Is(err, errAway) }}
}

// Claim implements Work.
func (p *pile) Claim(_ context.Context, n int, busy map[string]bool) ([]row, time.Time, error) {
	if p.onClaim != nil {
		if err := p.onClaim(n, busy); err != nil {
			return nil, time.Time{}, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims++
	var rows []row
	for _, r := range p.due {
		if !busy[r.ID()] && len(rows) < n {
			rows = append(rows, r)
		}
	}
	if p.onClaimed != nil {
		p.onClaimed(rows)
	}
	return rows, time.Time{}, nil
}

// Limit implements Work.
func (p *pile) Limit() Limit { return Limit{InFlight: p.limit, Careful: p.careful} }

// Do implements Work.
func (p *pile) Do(ctx context.Context, r row) (row, bool) {
	if p.onDo != nil {
		p.onDo(r)
	}
	p.count(1)
	defer p.count(-1)
	return r, wait(ctx, p.takes)
}

// Learn implements Work.
func (p *pile) Learn(row) bool {
	if p.onLearn != nil {
		p.onLearn()
	}
	return false
}

// Pause implements Work.
func (p *pile) Pause() time.Duration { return p.pause }

func (p *pile) count(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now += n
	p.max = max(p.max, p.now)
}

func (p *pile) inFlight() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// Record implements Work.
func (p *pile) Record(_ context.Context, batch []row) error {
	if p.refuse != nil {
		if err := p.refuse(batch); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recorded = append(p.recorded, slices.Clone(batch))
	p.due = slices.DeleteFunc(p.due, func(r row) bool { return slices.Contains(batch, r) })
	return nil
}

func (p *pile) add(rows ...row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due = append(p.due, rows...)
}

// done are the recorded rows, sorted.
func (p *pile) done() []row {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(slices.Values(slices.Concat(p.recorded...)))
}

func numbers(n int) []row {
	all := make([]row, n)
	for i := range all {
		all[i] = row(i)
	}
	return all
}

func TestKeepsItsLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(20), limit: 3, takes: time.Second}
		if _, err := p.pipeline().Run(t.Context(), t.Context(), Lease{}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.done(), numbers(20)) || p.max != 3 {
			t.Errorf("done %v, at most %d at a time", p.done(), p.max)
		}
	})
}

func TestRecordsInBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(100), limit: 100, takes: time.Second}
		// While one batch is written, the others come in.
		p.refuse = func([]row) error { wait(t.Context(), time.Second); return nil }
		if _, err := p.pipeline().Run(t.Context(), t.Context(), Lease{}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.done(), numbers(100)) || len(p.recorded) > 3 {
			t.Errorf("%d rows in %d batches", len(p.done()), len(p.recorded))
		}
	})
}

func TestHearsOfNewWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: []row{1}, limit: 10, takes: time.Hour}
		woken := make(chan struct{}, 1)
		stop, cancel := context.WithCancel(t.Context())
		defer cancel()
		var run sync.WaitGroup
		run.Go(func() {
			if _, err := p.pipeline().Run(stop, t.Context(), Lease{Woken: woken}); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		p.add(2)
		woken <- struct{}{}
		synctest.Wait()
		if n := p.inFlight(); n != 2 {
			t.Errorf("woken: %d in flight, want 2", n)
		}
		p.add(3) // by another process
		wait(t.Context(), recheck)
		synctest.Wait()
		if n := p.inFlight(); n != 3 {
			t.Errorf("not woken: %d in flight after %v, want 3", n, recheck)
		}
		run.Wait()
	})
}

// A row that the database refuses costs no other row its result.
func TestPoisonRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(10), limit: 10, takes: time.Second}
		poison := errors.New("value out of range")
		p.refuse = func(batch []row) error {
			if slices.Contains(batch, 5) {
				return poison
			}
			return nil
		}
		_, err := p.pipeline().Run(t.Context(), t.Context(), Lease{})
		if !errors.Is(err, poison) {
			t.Errorf("got %v", err)
		}
		if want := append(numbers(5), 6, 7, 8, 9); !slices.Equal(p.done(), want) {
			t.Errorf("recorded %v, want %v", p.done(), want)
		}
	})
}

// While the database is away nothing new is claimed, and what was done is written
// when it is back.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(10), limit: 2, takes: time.Second}
		back := time.Now().Add(time.Hour)
		p.refuse = func([]row) error {
			if time.Now().Before(back) {
				return errAway
			}
			return nil
		}
		if _, err := p.pipeline().Run(t.Context(), t.Context(), Lease{}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.done(), numbers(10)) {
			t.Errorf("recorded %v", p.done())
		}
		if late := time.Since(back); late > 10*time.Second {
			t.Errorf("written %v after it was back", late)
		}
	})
}

func TestDatabaseAwayAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(1), limit: 1, takes: time.Second, refuse: func([]row) error { return errAway }}
		work, cutOff := context.WithTimeout(t.Context(), time.Minute)
		defer cutOff()
		if _, err := p.pipeline().Run(work, work, Lease{}); !errors.Is(err, errAway) {
			t.Errorf("got %v", err)
		}
	})
}

func TestStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(10), limit: 4, takes: time.Minute}
		stop, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.pipeline().Run(stop, t.Context(), Lease{}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.done(), numbers(4)) {
			t.Errorf("recorded %v, want what was in flight", p.done())
		}
	})
}

// What is cut off is not recorded: whoever comes next does it.
func TestCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(10), limit: 4, takes: time.Minute}
		work, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.pipeline().Run(work, work, Lease{}); err != nil {
			t.Fatal(err)
		}
		if len(p.done()) > 0 {
			t.Errorf("recorded %v", p.done())
		}
	})
}

func TestClaimFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(3), limit: 2, takes: time.Second}
		broken := errors.New("broken")
		p.onClaim = func(int, map[string]bool) error {
			if p.claims > 0 {
				return broken
			}
			return nil
		}
		if _, err := p.pipeline().Run(t.Context(), t.Context(), Lease{}); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		if !slices.Equal(p.done(), numbers(2)) {
			t.Errorf("recorded %v, want what was in flight", p.done())
		}
	})
}

// While a batch is written, requests go on, and rows are claimed ahead: neither a
// claim nor a commit is waited for.
func TestGoesOnDuringACommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(1000), limit: 10, takes: 10 * time.Millisecond}
		p.refuse = func([]row) error { wait(t.Context(), 50*time.Millisecond); return nil }
		began := time.Now()
		if _, err := p.pipeline().Run(t.Context(), t.Context(), Lease{}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.done(), numbers(1000)) || p.max != 10 {
			t.Errorf("done %d, at most %d at a time", len(p.done()), p.max)
		}
		if took := time.Since(began); took > 1200*time.Millisecond {
			t.Errorf("it took %v: 1 s of requests, and little more", took)
		}
		if p.claims > 40 {
			t.Errorf("%d claims", p.claims)
		}
	})
}

// What a kill would have sent twice stays bounded, however long a commit takes.
func TestBoundsWhatIsUnrecorded(t *testing.T) {
	t.Parallel()
	boundsWhatIsUnrecorded(t, 0, unrecordedMost)
	boundsWhatIsUnrecorded(t, 30, 30)
}

func boundsWhatIsUnrecorded(t *testing.T, setting, bound int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(3 * unrecordedMost), limit: 20, takes: time.Millisecond}
		var begun atomic.Int64
		unrecorded := func() int { return int(begun.Load()) - len(p.done()) }
		most := 0
		p.onDo = func(row) { begun.Add(1) }
		p.refuse = func([]row) error {
			wait(t.Context(), time.Minute)
			most = max(most, unrecorded())
			return nil
		}
		line := p.pipeline()
		line.Unrecorded = setting
		if _, err := line.Run(t.Context(), t.Context(), Lease{}); err != nil {
			t.Fatal(err)
		}
		if most < bound/2 || most > bound {
			t.Errorf("%d were sent and not recorded, want at most %d", most, bound)
		}
	})
}

// What was claimed ahead while requests were quick is claimed anew when they have
// become slow, so that it does not go by what a claim has read long ago.
func TestGoesByFreshClaims(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(2000), limit: 10, takes: time.Millisecond}
		d := p.pipeline()
		d.Ahead, d.Fresh = time.Second, time.Second
		var mu sync.Mutex
		claims, oldest, quick := map[row]time.Time{}, time.Duration(0), time.Now().Add(150*time.Millisecond)
		p.onClaimed = func(rows []row) {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range rows {
				claims[r] = time.Now()
			}
		}
		stop, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.onDo = func(r row) {
			mu.Lock()
			oldest = max(oldest, time.Since(claims[r]))
			mu.Unlock()
			if time.Now().After(quick) {
				wait(t.Context(), 3*time.Second)
			}
		}
		if _, err := d.Run(stop, t.Context(), Lease{}); err != nil {
			t.Fatal(err)
		}
		if oldest > d.Fresh {
			t.Errorf("a request went by a claim of %v ago", oldest)
		}
	})
}

// A careful pace waits for each result's commit, and claims nothing ahead of it.
func TestCareful(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(20), limit: 1, takes: time.Millisecond}
		p.refuse = func(batch []row) error {
			wait(t.Context(), time.Second)
			if p.inFlight() > 0 || len(batch) > 1 {
				t.Errorf("%d recorded with %d in flight", len(batch), p.inFlight())
			}
			return nil
		}
		p.careful = true
		p.onClaim = func(n int, busy map[string]bool) error {
			if n != 1 || len(busy) > 0 {
				t.Errorf("%d claimed while %d are not recorded", n, len(busy))
			}
			return nil
		}
		if _, err := p.pipeline().Run(t.Context(), t.Context(), Lease{}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.done(), numbers(20)) {
			t.Errorf("done %v", p.done())
		}
	})
}

// What an answer says holds for the next request, though rows were claimed ahead.
func TestHeedsAnAnswerAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(1000), limit: 2, takes: time.Millisecond}
		learned := 0
		p.onLearn = func() {
			if learned++; learned == 100 {
				p.limit = 0
			}
		}
		if _, err := p.pipeline().Run(t.Context(), t.Context(), Lease{}); err != nil {
			t.Fatal(err)
		}
		if n := len(p.done()); n < 100 || n > 102 {
			t.Errorf("%d done, want 100 and what was in flight", n)
		}
	})
}

// While results cannot be written nothing new is sent, for that would be sent
// twice if the process ends before the database is back.
func TestSendsNothingThatItCannotRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(1000), limit: 10, takes: time.Millisecond, refuse: func([]row) error { return errAway }}
		var begun atomic.Int64
		p.onDo = func(row) { begun.Add(1) }
		work, cutOff := context.WithTimeout(t.Context(), time.Minute)
		defer cutOff()
		if _, err := p.pipeline().Run(work, work, Lease{}); !errors.Is(err, errAway) {
			t.Errorf("got %v", err)
		}
		if n := begun.Load(); n > 30 {
			t.Errorf("%d were sent while the database was away", n)
		}
	})
}

// A run that stays for a moment hears of what comes in it, and leaves when
// nothing comes, or when it is asked to.
func TestWaitsIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: []row{1}, limit: 10}
		woken := make(chan struct{}, 1)
		lease := Lease{Woken: woken, IdleWait: func() time.Duration { return time.Minute }}
		time.AfterFunc(50*time.Second, func() { p.add(2); woken <- struct{}{} })
		began := time.Now()
		if _, err := p.pipeline().Run(t.Context(), t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 110*time.Second || !slices.Equal(p.done(), []row{1, 2}) {
			t.Errorf("recorded %v, and left after %v", p.done(), took)
		}
		if p.claims != 2 {
			t.Errorf("%d claims, want one for each time that there was something", p.claims)
		}
		leavesWhenAsked(t, p, lease)
	})
}

// What becomes due while a run pauses is claimed together; it hears of nothing
// meanwhile, pauses only after it did something, and leaves when asked to.
func TestPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: []row{1}, limit: 100, pause: time.Minute}
		woken := make(chan struct{}, 1)
		lease := Lease{Woken: woken}
		for r := row(2); r <= 20; r++ {
			time.AfterFunc(time.Duration(r)*time.Second, func() {
				p.add(r)
				select {
				case woken <- struct{}{}:
				default:
				}
			})
		}
		began := time.Now()
		if _, err := p.pipeline().Run(t.Context(), t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 2*time.Minute || !slices.Equal(p.done(), numbers(21)[1:]) {
			t.Errorf("recorded %v, and left after %v", p.done(), took)
		}
		if p.claims != 3 {
			t.Errorf("%d claims, want one for what was due, one for what came, and one for nothing", p.claims)
		}
		p.add(21)
		lease.Crowded = func() bool { return true }
		began = time.Now()
		if _, err := p.pipeline().Run(t.Context(), t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it paused for %v where others were waiting", took)
		}
		p.add(22)
		leavesWhenAsked(t, p, Lease{})
	})
}

// leavesWhenAsked runs what would stay for longer than a second, and asks it to stop
// after one.
func leavesWhenAsked(t *testing.T, p *pile, lease Lease) {
	t.Helper()
	stop, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	if _, err := p.pipeline().Run(stop, t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took != time.Second {
		t.Errorf("asked to stop after a second, it left after %v", took)
	}
}
