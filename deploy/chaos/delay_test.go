package chaos

import (
	"slices"
	"testing"
	"time"

	"oprelay/jobs/cloudflare/simulator"
)

// probes are the watches by which a neighbour's delay is measured, in rounds.
type probes struct{ rounds, count, rate int }

func theProbes() probes {
	if *long {
		return probes{rounds: 3, count: 240, rate: 40}
	}
	return probes{rounds: 1, count: 40, rate: 20}
}

// The delays that are measured.
var (
	// afterEvent is from the making of the event to its arrival.
	afterEvent = func(e entry, got *receipt) time.Duration { return got.accepted[0].at.Sub(got.message.Timestamp) }
	// afterAsking is from the request to the arrival, for operations that are over
	// by then: registration, detection and delivery.
	afterAsking = func(e entry, got *receipt) time.Duration { return got.accepted[0].at.Sub(e.asked) }
)

// measure is the 99th percentile of the delay in each of some rounds. A round
// registers watches on operations that are over, at a steady rate. Every one has to
// arrive.
func (r *rig) measure(t *testing.T, delay func(entry, *receipt) time.Duration) (p99s []time.Duration) {
	t.Helper()
	for range theProbes().rounds {
		p99s = append(p99s, r.measureOnce(t, delay))
	}
	return p99s
}

func (r *rig) measureOnce(t *testing.T, delay func(entry, *receipt) time.Duration) time.Duration {
	t.Helper()
	l := r.newLoad()
	l.receive.tell(l.books)
	tick := time.NewTicker(time.Second / time.Duration(theProbes().rate))
	defer tick.Stop()
	for range theProbes().count {
		<-tick.C
		l.running.Go(func() { l.register(1, func() simulator.Plan { return simulator.Plan{} }) })
	}
	l.running.Wait()
	r.settle(t, l.books)
	var all []time.Duration
	for _, e := range l.books.all() {
		for i, got := range r.receive.of(e.operation, e.destinations) {
			if got == nil {
				t.Fatalf("operation %s never arrived at %s", e.operation, e.destinations[i])
			}
			all = append(all, delay(e, got))
		}
	}
	slices.Sort(all)
	return all[(len(all)*99)/100]
}

// delays are a neighbour's 99th percentiles, alone and beside one in trouble: the
// medians of their rounds. The noise is by how much those alone differ.
type delays struct {
	what                 string
	alone, beside, noise time.Duration
	// most is what is allowed beside; 0 is neighbourLimit times as much as alone.
	most time.Duration
}

func (d delays) ratio() float64 { return d.beside.Seconds() / d.alone.Seconds() }

// neighbourLimit is how many times as long a healthy neighbour's delay may be. What
// the rounds alone differ by is no trouble's doing and is allowed beside, but not more
// than noiseLimit.
const (
	neighbourLimit = 2
	noiseLimit     = 5 * time.Millisecond
)

// goesOn is what is allowed where the neighbour's work is no trouble but more than the
// machine can do, so that everybody waits for a processor: nobody is to wait behind it.
const goesOn = 500 * time.Millisecond

func (d delays) limit() time.Duration {
	if d.most > 0 {
		return d.most
	}
	return neighbourLimit*d.alone + min(d.noise, noiseLimit)
}

func (d delays) tooLong() bool { return d.beside > d.limit() }

// compare enters the delays into the table and, in the long form, judges them.
func compare(t *testing.T, what string, alone, beside []time.Duration, most time.Duration) {
	t.Helper()
	d := delays{
		what: what, alone: median(alone), beside: median(beside), noise: slices.Max(alone) - slices.Min(alone), most: most,
	}
	results.addDelays(d)
	t.Logf("%s: p99 %s alone, %s beside", what, alone, beside)
	if *long && d.tooLong() {
		t.Errorf("%s: p99 is %s, %.1f times as long, want %s at most", what, d.beside, d.ratio(), d.limit())
	}
}

func median(of []time.Duration) time.Duration { return slices.Sorted(slices.Values(of))[len(of)/2] }

// What is more than twice as long is too long, however short it is, unless another
// limit is set.
func TestNoFloorExcusesANeighbour(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		delays

		want bool
	}{
		{delays{alone: 4 * ms, beside: 8 * ms}, false},
		{delays{alone: 4 * ms, beside: 9 * ms}, true},
		{delays{alone: 4 * ms, beside: 9 * ms, noise: ms}, false},
		{delays{alone: 10 * ms, beside: 49 * ms, noise: 50 * ms}, true},
		{delays{alone: 100 * ms, beside: 199 * ms}, false},
		{delays{alone: 50 * ms, beside: 500 * ms, most: goesOn}, false},
		{delays{alone: 400 * ms, beside: 501 * ms, most: goesOn}, true},
	} {
		if got := c.tooLong(); got != c.want {
			t.Errorf("%+v is too long: %t, want %t", c.delays, got, c.want)
		}
	}
}
