package jobs

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// errUnavailable is an error that storage.Unavailable knows.
var errUnavailable = fmt.Errorf("write: %w", driver.ErrBadConn)

// pile is a group's rows in tests: what is due, what was recorded.
type pile struct {
	mu       sync.Mutex
	due      []int
	recorded [][]int // batches
	claims   int
	now, max int // in flight
	takes    time.Duration
	limit    int
	refuse   func(batch []int) error
}

func (p *pile) drain() *drain[int, int] {
	return &drain[int, int]{
		claim: func(_ context.Context, n int, inFlight map[string]bool) ([]int, time.Time, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.claims++
			var rows []int
			for _, row := range p.due {
				if !inFlight[strconv.Itoa(row)] && len(rows) < n {
					rows = append(rows, row)
				}
			}
			return rows, time.Time{}, nil
		},
		pace:  func() pace { return pace{limit: p.limit} },
		learn: func(int) {},
		ahead: ahead,
		id:    strconv.Itoa,
		do: func(ctx context.Context, row int) (int, bool) {
			p.count(1)
			defer p.count(-1)
			return row, wait(ctx, p.takes)
		},
		record: p.record,
	}
}

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

func (p *pile) record(_ context.Context, batch []int) error {
	if p.refuse != nil {
		if err := p.refuse(batch); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recorded = append(p.recorded, slices.Clone(batch))
	p.due = slices.DeleteFunc(p.due, func(row int) bool { return slices.Contains(batch, row) })
	return nil
}

func (p *pile) add(rows ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due = append(p.due, rows...)
}

// done are the recorded rows, sorted.
func (p *pile) done() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(slices.Values(slices.Concat(p.recorded...)))
}

func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func leased() *atomic.Bool {
	b := new(atomic.Bool)
	b.Store(true)
	return b
}

func TestDrainKeepsItsLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(20), limit: 3, takes: time.Second}
		if _, err := p.drain().run(t.Context(), t.Context(), nil, leased()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.done(), numbers(20)) || p.max != 3 {
			t.Errorf("done %v, at most %d at a time", p.done(), p.max)
		}
	})
}

func TestDrainRecordsInBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(100), limit: 100, takes: time.Second}
		// While one batch is written, the others come in.
		p.refuse = func([]int) error { wait(t.Context(), time.Second); return nil }
		if _, err := p.drain().run(t.Context(), t.Context(), nil, leased()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.done(), numbers(100)) || len(p.recorded) > 3 {
			t.Errorf("%d rows in %d batches", len(p.done()), len(p.recorded))
		}
	})
}

func TestDrainHearsOfNewWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: []int{1}, limit: 10, takes: time.Hour}
		woken := make(chan struct{}, 1)
		stop, cancel := context.WithCancel(t.Context())
		defer cancel()
		var run sync.WaitGroup
		run.Go(func() {
			if _, err := p.drain().run(stop, t.Context(), woken, leased()); err != nil {
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
func TestDrainPoisonRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(10), limit: 10, takes: time.Second}
		poison := errors.New("value out of range")
		p.refuse = func(batch []int) error {
			if slices.Contains(batch, 5) {
				return poison
			}
			return nil
		}
		_, err := p.drain().run(t.Context(), t.Context(), nil, leased())
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
func TestDrainDatabaseAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(10), limit: 2, takes: time.Second}
		back := time.Now().Add(time.Hour)
		p.refuse = func([]int) error {
			if time.Now().Before(back) {
				return errUnavailable
			}
			return nil
		}
		if _, err := p.drain().run(t.Context(), t.Context(), nil, leased()); err != nil {
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

func TestDrainDatabaseAwayAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(1), limit: 1, takes: time.Second, refuse: func([]int) error { return errUnavailable }}
		work, cutOff := context.WithTimeout(t.Context(), time.Minute)
		defer cutOff()
		if _, err := p.drain().run(work, work, nil, leased()); !errors.Is(err, errUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDrainStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(10), limit: 4, takes: time.Minute}
		stop, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.drain().run(stop, t.Context(), nil, leased()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.done(), numbers(4)) {
			t.Errorf("recorded %v, want what was in flight", p.done())
		}
	})
}

func TestDrainLostLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(10), limit: 4, takes: time.Minute}
		lease := leased()
		time.AfterFunc(time.Second, func() { lease.Store(false) })
		if _, err := p.drain().run(t.Context(), t.Context(), nil, lease); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.done(), numbers(4)) {
			t.Errorf("recorded %v, want what was in flight", p.done())
		}
	})
}

// What is cut off is not recorded: whoever comes next does it.
func TestDrainCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(10), limit: 4, takes: time.Minute}
		work, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.drain().run(work, work, nil, leased()); err != nil {
			t.Fatal(err)
		}
		if len(p.done()) > 0 {
			t.Errorf("recorded %v", p.done())
		}
	})
}

func TestDrainClaimFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(3), limit: 2, takes: time.Second}
		d := p.drain()
		claim, broken := d.claim, errors.New("broken")
		d.claim = func(ctx context.Context, n int, inFlight map[string]bool) ([]int, time.Time, error) {
			if p.claims > 0 {
				return nil, time.Time{}, broken
			}
			return claim(ctx, n, inFlight)
		}
		if _, err := d.run(t.Context(), t.Context(), nil, leased()); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		if !slices.Equal(p.done(), numbers(2)) {
			t.Errorf("recorded %v, want what was in flight", p.done())
		}
	})
}

func TestKeepLease(t *testing.T) {
	t.Parallel()
	refused := func(context.Context) (bool, error) { return false, nil }
	away := func(context.Context) (bool, error) { return false, errUnavailable }
	hang := func(ctx context.Context) (bool, error) { <-ctx.Done(); return false, ctx.Err() }
	for _, test := range []struct {
		name  string
		renew func(context.Context) (bool, error)
		lost  time.Duration // 0: kept
	}{
		{"renewed", func(context.Context) (bool, error) { return true, nil }, 0},
		{"another has it", refused, leaseRenew},
		{"the database is away", away, leaseTTL},
		{"the database hangs", hang, leaseTTL},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				lease, began := leased(), time.Now()
				keepLease(ctx, test.renew, lease)
				took := time.Since(began)
				if test.lost == 0 && (!lease.Load() || took != time.Hour) {
					t.Errorf("lost after %v", took)
				}
				if test.lost > 0 && (lease.Load() || took > test.lost) {
					t.Errorf("lost: %v, after %v; want within %v", !lease.Load(), took, test.lost)
				}
			})
		})
	}
}

// While a batch is written, requests go on, and rows are claimed ahead: neither a
// claim nor a commit is waited for.
func TestDrainGoesOnDuringACommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(1000), limit: 10, takes: 10 * time.Millisecond}
		p.refuse = func([]int) error { wait(t.Context(), 50*time.Millisecond); return nil }
		began := time.Now()
		if _, err := p.drain().run(t.Context(), t.Context(), nil, leased()); err != nil {
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
func TestDrainBoundsWhatIsUnrecorded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(3 * unrecordedMost), limit: 20, takes: time.Millisecond}
		var begun atomic.Int64
		unrecorded := func() int { return int(begun.Load()) - len(p.done()) }
		d, most := p.drain(), 0
		do := d.do
		d.do = func(ctx context.Context, row int) (int, bool) { begun.Add(1); return do(ctx, row) }
		p.refuse = func([]int) error {
			wait(t.Context(), time.Minute)
			most = max(most, unrecorded())
			return nil
		}
		if _, err := d.run(t.Context(), t.Context(), nil, leased()); err != nil {
			t.Fatal(err)
		}
		if most < unrecordedMost/2 || most > unrecordedMost {
			t.Errorf("%d were sent and not recorded, want at most %d", most, unrecordedMost)
		}
	})
}

// What was claimed ahead while requests were quick is claimed anew when they have
// become slow, so that it does not go by what a claim has read long ago.
func TestDrainGoesByFreshClaims(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(2000), limit: 10, takes: time.Millisecond}
		d := p.drain()
		d.ahead, d.fresh = time.Second, time.Second
		var mu sync.Mutex
		claims, oldest, quick := map[int]time.Time{}, time.Duration(0), time.Now().Add(150*time.Millisecond)
		claim, do := d.claim, d.do
		d.claim = func(ctx context.Context, n int, busy map[string]bool) ([]int, time.Time, error) {
			rows, notBefore, err := claim(ctx, n, busy)
			mu.Lock()
			defer mu.Unlock()
			for _, row := range rows {
				claims[row] = time.Now()
			}
			return rows, notBefore, err
		}
		stop, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		d.do = func(ctx context.Context, row int) (int, bool) {
			mu.Lock()
			oldest = max(oldest, time.Since(claims[row]))
			mu.Unlock()
			if time.Now().After(quick) {
				wait(ctx, 3*time.Second)
			}
			return do(ctx, row)
		}
		if _, err := d.run(stop, t.Context(), nil, leased()); err != nil {
			t.Fatal(err)
		}
		if oldest > d.fresh {
			t.Errorf("a request went by a claim of %v ago", oldest)
		}
	})
}

// A careful pace waits for each result's commit, and claims nothing ahead of it.
func TestDrainCareful(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(20), limit: 1, takes: time.Millisecond}
		p.refuse = func(batch []int) error {
			wait(t.Context(), time.Second)
			if p.inFlight() > 0 || len(batch) > 1 {
				t.Errorf("%d recorded with %d in flight", len(batch), p.inFlight())
			}
			return nil
		}
		d := p.drain()
		d.pace = func() pace { return pace{limit: 1, careful: true} }
		claim := d.claim
		d.claim = func(ctx context.Context, n int, busy map[string]bool) ([]int, time.Time, error) {
			if n != 1 || len(busy) > 0 {
				t.Errorf("%d claimed while %d are not recorded", n, len(busy))
			}
			return claim(ctx, n, busy)
		}
		if _, err := d.run(t.Context(), t.Context(), nil, leased()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.done(), numbers(20)) {
			t.Errorf("done %v", p.done())
		}
	})
}

// What an answer says holds for the next request, though rows were claimed ahead.
func TestDrainHeedsAnAnswerAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(1000), limit: 2, takes: time.Millisecond}
		d, learned := p.drain(), 0
		d.learn = func(int) { learned++ }
		d.pace = func() pace {
			if learned >= 100 {
				return pace{}
			}
			return pace{limit: 2}
		}
		if _, err := d.run(t.Context(), t.Context(), nil, leased()); err != nil {
			t.Fatal(err)
		}
		if n := len(p.done()); n < 100 || n > 102 {
			t.Errorf("%d done, want 100 and what was in flight", n)
		}
	})
}

// While results cannot be written nothing new is sent, for that would be sent
// twice if the process ends before the database is back.
func TestDrainSendsNothingThatItCannotRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: numbers(1000), limit: 10, takes: time.Millisecond, refuse: func([]int) error { return errUnavailable }}
		var begun atomic.Int64
		d := p.drain()
		do := d.do
		d.do = func(ctx context.Context, row int) (int, bool) { begun.Add(1); return do(ctx, row) }
		work, cutOff := context.WithTimeout(t.Context(), time.Minute)
		defer cutOff()
		if _, err := d.run(work, work, nil, leased()); !errors.Is(err, errUnavailable) {
			t.Errorf("got %v", err)
		}
		if n := begun.Load(); n > 30 {
			t.Errorf("%d were sent while the database was away", n)
		}
	})
}

// A shift that stays for a moment hears of what comes in it, and leaves when
// nothing comes, or when it is asked to.
func TestDrainLingers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: []int{1}, limit: 10}
		d := p.drain()
		d.linger = func() time.Duration { return time.Minute }
		woken := make(chan struct{}, 1)
		time.AfterFunc(50*time.Second, func() { p.add(2); woken <- struct{}{} })
		began := time.Now()
		if _, err := d.run(t.Context(), t.Context(), woken, leased()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 110*time.Second || !slices.Equal(p.done(), []int{1, 2}) {
			t.Errorf("recorded %v, and left after %v", p.done(), took)
		}
		if p.claims != 2 {
			t.Errorf("%d claims, want one for each time that there was something", p.claims)
		}
		leavesWhenAsked(t, d)
	})
}

// What becomes due while a shift rests is claimed together; it hears of nothing
// meanwhile, rests only after it did something, and leaves when asked to.
func TestDrainRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &pile{due: []int{1}, limit: 100}
		d := p.drain()
		d.rest = func() time.Duration { return time.Minute }
		woken := make(chan struct{}, 1)
		for row := 2; row <= 20; row++ {
			time.AfterFunc(time.Duration(row)*time.Second, func() { p.add(row); (&shift{woken: woken}).nudge() })
		}
		began := time.Now()
		if _, err := d.run(t.Context(), t.Context(), woken, leased()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 2*time.Minute || !slices.Equal(p.done(), numbers(21)[1:]) {
			t.Errorf("recorded %v, and left after %v", p.done(), took)
		}
		if p.claims != 3 {
			t.Errorf("%d claims, want one for what was due, one for what came, and one for nothing", p.claims)
		}
		p.add(21)
		d.crowded = func() bool { return true }
		began = time.Now()
		if _, err := d.run(t.Context(), t.Context(), woken, leased()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it rested for %v where others were waiting", took)
		}
		p.add(22)
		d.crowded = nil
		leavesWhenAsked(t, d)
	})
}

// leavesWhenAsked runs what would stay for longer than a second, and asks it to stop
// after one.
func leavesWhenAsked(t *testing.T, d *drain[int, int]) {
	t.Helper()
	stop, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	if _, err := d.run(stop, t.Context(), nil, leased()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took != time.Second {
		t.Errorf("asked to stop after a second, it left after %v", took)
	}
}
