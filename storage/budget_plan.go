package storage

import (
	"hash/fnv"
	"math"
	"time"
)

// Intervals say how long an operation waits between two polls if its budget affords it:
// a share of its age, at least Min and at most Max.
type Intervals struct {
	Lag      float64
	Min, Max time.Duration
}

// Own is the interval that follows a poll at an age, without a budget.
func (i Intervals) Own(age time.Duration) time.Duration {
	least := max(i.Min, time.Millisecond)
	return min(max(time.Duration(i.Lag*float64(age)), least), max(i.Max, least))
}

// PollPlan says how the operations of a budget are polled so that it lasts: each waits
// Growth times its own interval, and no longer than Longest. With the zero plan each has
// its own interval.
//
// The plan minimizes the mean of (noticed - ended) / duration. If polls follow each other
// after a share L of the operation's age, its end is noticed L/2 of its duration late on
// average, whatever the age. So if the budget is too small, all get the same larger share:
// the smallest with which the polls to come fit the budget at each moment until all of it
// is available again. Three things bend that rule:
//
//   - Few operations live for as long as the budget is planned for. Each poll counts by the
//     probability that its operation is still running then ([survival]).
//   - Nobody is forgotten: no interval is longer than one and a half even shares of the
//     budget ([longestShare]).
//   - Some of the budget is kept for the first polls of operations to come ([firstShare]),
//     and for as many new operations as have come recently, if they last as those did.
//
// The interval after the first poll differs by [phase], so that operations that were
// registered together are not polled together. Of twenty that end together the first is
// found soon, and its contemporaries are polled next (see TakePolls.Ended).
//
// TestSimulatedBudgets measures the plan against fixed shares.
type PollPlan struct {
	Growth  float64 // at least 1; 0 counts as 1
	Longest time.Duration
}

const (
	// longestShare bounds intervals, in even shares of the budget.
	longestShare = 1.5
	// spentShare is the bound if longestShare takes more than is left.
	spentShare = 2.0
	// firstShare is the part of a budget that first polls may use at once in each window,
	// whatever is planned. keptShare is kept for them where few came recently.
	firstShare, keptShare = 1.0 / 8, 1.0 / 10
	// survivalExponent and survivalOffset describe how likely an operation goes on. With
	// log-normal durations around a minute the exponent is between 0.1 and 0.5 in the
	// first minutes, and more later. Too large a value spends the budget too early.
	survivalExponent = 0.2
	survivalOffset   = 30 * time.Second
	// planSteps is how often the search for the growth halves its range: to 0.1%.
	planSteps = 12
	// planSample is how many operations are looked at to count the polls of all.
	planSample = 128
	// countedAtMost bounds the steps in which the polls of one operation are counted.
	countedAtMost = 500
	// lagAge is the age of an operation that a budget's lag is told for.
	lagAge = time.Minute
	// planChange is by how much a plan must change for due times to be written anew.
	planChange = 1.1
)

// Scarce says whether operations wait for longer than their own intervals.
func (p PollPlan) Scarce() bool { return p.Growth > 1 }

// Lag is the share of its age that an operation of lagAge waits: where all wait for Longest, it
// is another at each age.
func (p PollPlan) Lag(own Intervals) float64 {
	if !p.Scarce() {
		return own.Lag
	}
	return max(own.Lag, float64(p.Interval(own, lagAge))/float64(lagAge))
}

// Interval is the time between a poll of an operation at an age and the next one.
func (p PollPlan) Interval(own Intervals, age time.Duration) time.Duration {
	wait := own.Own(age)
	if !p.Scarce() {
		return wait
	}
	return min(time.Duration(p.Growth*float64(wait)), max(p.Longest, wait))
}

// second is the interval that follows the first poll of an operation, or its registration
// if that poll was deferred.
func (p PollPlan) second(own Intervals, phase float64) time.Duration {
	wait := p.Interval(own, 0)
	if !p.Scarce() {
		return wait
	}
	return max(time.Duration(float64(wait)*phase), own.Own(0))
}

// After is the interval that follows poll number polls (from 1) of an operation at an age,
// jittered by 10% to either side.
func (p PollPlan) After(own Intervals, operationID string, polls int, age time.Duration) time.Duration {
	if polls == 1 && p.Scarce() {
		return p.second(own, phase(operationID, 0))
	}
	return time.Duration(float64(p.Interval(own, age)) * (0.9 + 0.2*phase(operationID, polls)))
}

// phase is a random number in [0,1) that an operation keeps: the same in every plan.
func phase(operationID string, n int) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(operationID)) // never fails
	_, _ = h.Write([]byte{byte(n), byte(n >> 8)})
	const golden = 0x9E3779B97F4A7C15 // mixes hashes that differ in the last bits only
	x := h.Sum64()
	x ^= x >> 31
	x *= golden
	return float64(x>>11) / (1 << 53)
}

// plannedPoll is an operation as the plan sees it.
type plannedPoll struct {
	rowID    string
	id       string // the upstream's
	created  time.Time
	polled   time.Time // zero for never
	due      time.Time
	fresh    bool // waits for its first poll
	inFlight bool
	fixed    bool // its due time is not from a plan but from an answer: a Retry-After, a grace
}

// budgetOutlook is what a plan is made from.
type budgetOutlook struct {
	own        Intervals
	now        time.Time
	before     PollPlan      // from which the due times are
	operations []plannedPoll // some of all
	total      int           // how many there are
	left       []budgetLeft
	newcomers  float64       // new operations to expect, per second
	even       time.Duration // the interval if all share the budget alike
}

// budgetLeft is how many requests may be sent until a time from now.
type budgetLeft struct {
	until time.Duration
	n     float64
}

// plan is the plan of the smallest growth with which the polls fit the budget.
func (o budgetOutlook) plan() PollPlan {
	if o.fits(PollPlan{}) {
		return PollPlan{}
	}
	longest := max(o.own.Max, time.Duration(longestShare*float64(o.even)))
	most := func() float64 { return math.Log(max(float64(longest)/float64(o.own.Own(0)), 2)) }
	if !o.fits(PollPlan{math.Exp(most()), longest}) {
		longest = max(o.own.Max, time.Duration(spentShare*float64(o.even)))
	}
	low, high := 0.0, most()
	for range planSteps {
		if middle := (low + high) / 2; o.fits(PollPlan{math.Exp(middle), longest}) {
			high = middle
		} else {
			low = middle
		}
	}
	return PollPlan{math.Exp(high), longest}
}

// asked is how many times a whole budget of so many requests the operations there are would take
// at their own intervals.
func (o budgetOutlook) asked(requests int) float64 {
	o.newcomers = 0
	sum := 0.0
	for _, polls := range o.planned(PollPlan{}, math.Inf(1)) {
		sum += polls
	}
	return sum / float64(max(requests, 1))
}

// fits says whether the polls of plan p fit what is left at each moment.
func (o budgetOutlook) fits(p PollPlan) bool {
	planned, sum := o.planned(p, o.left[len(o.left)-1].n), 0.0
	for i, left := range o.left {
		if sum += planned[i]; sum > left.n {
			return false
		}
	}
	return true
}

// planned counts the polls of plan p from each moment of o.left to the next. It stops
// above enough.
func (o budgetOutlook) planned(p PollPlan, enough float64) []float64 {
	planned, sum := make([]float64, len(o.left)), 0.0
	step := max(len(o.operations)/planSample, 1)
	weight := float64(o.total) / math.Ceil(float64(len(o.operations))/float64(step))
	for i := 0; i < len(o.operations) && sum <= enough; i += step {
		op := &o.operations[i]
		sum += o.count(p, planned, o.now.Sub(op.created), o.next(p, op), weight)
	}
	const waves = 4 // in which new operations are taken to come
	for i := range waves {
		comes := o.horizon() * (2*time.Duration(i) + 1) / (2 * waves)
		o.count(p, planned, -comes, comes, o.newcomers*o.horizon().Seconds()/waves)
	}
	return planned
}

// horizon is how long the budget is planned for.
func (o budgetOutlook) horizon() time.Duration { return o.left[len(o.left)-1].until }

// next is the time from now to the next poll of the operation.
func (o budgetOutlook) next(p PollPlan, op *plannedPoll) time.Duration {
	switch {
	case op.inFlight:
		return p.Interval(o.own, o.now.Sub(op.created))
	case op.fresh:
		return max(p.second(o.own, phase(op.id, 0))-o.now.Sub(op.created), 0)
	}
	return max(p.stretch(o.own, o.before, op, o.now).Sub(o.now), 0)
}

// stretch is the new due time of an operation whose due time is from the plan before. What
// is left of its wait changes by as much as its interval, so that a longer plan leaves no
// time without polls, and a shorter one does not make all due at once.
func (p PollPlan) stretch(own Intervals, before PollPlan, op *plannedPoll, now time.Time) time.Time {
	wait := op.due.Sub(now)
	if wait <= 0 || op.fixed {
		return op.due
	}
	age := time.Duration(0)
	if !op.polled.IsZero() {
		age = op.polled.Sub(op.created)
	}
	ratio := float64(p.Interval(own, age)) / float64(before.Interval(own, age))
	return now.Add(time.Duration(ratio * float64(wait))).Truncate(time.Microsecond)
}

// latest bounds the due time of an operation.
func (p PollPlan) latest(own Intervals, op *plannedPoll) time.Time {
	since, age := op.created, time.Duration(0)
	if !op.polled.IsZero() {
		since, age = op.polled, op.polled.Sub(op.created)
	}
	const jitter = 1.1
	return since.Add(time.Duration(jitter * planChange * float64(p.Interval(own, age)))).Truncate(time.Microsecond)
}

// count adds the polls of an operation from its next one on to those planned, each weighed
// by the probability that the operation still runs. age is its age now, negative if it is
// still to come.
func (o budgetOutlook) count(p PollPlan, planned []float64, age, next time.Duration, weight float64) (sum float64) {
	slot := 0
	for at, last := next, o.horizon(); at <= last; {
		for at > o.left[slot].until {
			slot++
		}
		// Intervals may be very short: then several polls are counted in one step.
		interval := p.Interval(o.own, age+at)
		polls := max(int(last/countedAtMost/interval), 1)
		n := float64(polls) * weight * survival(max(age, 0), age+at)
		planned[slot], sum = planned[slot]+n, sum+n
		at += time.Duration(polls) * interval
	}
	return sum
}

// survival is the probability that an operation that runs at an age still runs at a later one.
func survival(age, later time.Duration) float64 {
	return math.Pow(float64(age+survivalOffset)/float64(later+survivalOffset), survivalExponent)
}

// differs says whether it is worth writing due times anew.
func (p PollPlan) differs(from PollPlan) bool {
	grown := max(p.Growth, 1) / max(from.Growth, 1)
	longer := 1.0
	if p.Scarce() && from.Scarce() {
		longer = float64(p.Longest) / float64(from.Longest)
	}
	return max(grown, 1/grown, longer, 1/longer) > planChange
}

// outlook is how many requests may be sent until each moment at which more become
// available, without those kept for first polls.
func (l *ledger) outlook() []budgetLeft {
	kept := l.kept()
	var left []budgetLeft
	for i := range int64(slotsCounted) {
		n := l.slotsLeft(i)
		until := time.UnixMicro(l.current + (i+1)*l.budget.slotLength()).Sub(l.now)
		if l.hintUntil.After(l.now.Add(until)) {
			n = min(n, l.hintRemaining)
		}
		if k := len(left) - 1; k >= 0 && left[k].n == float64(n-kept) {
			left[k].until = until
			continue
		}
		left = append(left, budgetLeft{until, float64(n - kept)})
	}
	return left
}

// firstPolls counts those in the slots, and those in the slot that has most.
func (l *ledger) firstPolls() (sum, most int) {
	for _, s := range l.slots {
		sum, most = sum+s.first, max(most, s.first)
	}
	return sum, most
}

// firstLeft is how many more first polls may be sent now, whatever is planned.
func (l *ledger) firstLeft() int {
	sent, _ := l.firstPolls()
	return max(int(math.Ceil(firstShare*float64(l.budget.N)))-sent, 0)
}

// kept is how many requests are kept for first polls: as many as there were recently, at
// least some, but never all.
func (l *ledger) kept() int {
	recent, _ := l.firstPolls()
	kept := min(l.firstLeft(), max(recent, int(math.Ceil(keptShare*float64(l.budget.N)))), l.budget.N-1)
	if l.hintUntil.After(l.now) {
		kept = min(kept, int(keptShare*float64(l.hintRemaining)))
	}
	return max(kept, 0)
}

// newcomers is how many new operations to expect per second, from the first polls of
// recent slots. The fullest slot is left out, for a batch says nothing of what comes after
// it. More may have come than were polled, so it is multiplied by a margin.
func (l *ledger) newcomers() float64 {
	const margin = 1.5
	if len(l.slots) == 0 || l.slots[0].start == l.current {
		return 0
	}
	sum, most := l.firstPolls()
	slots := (l.current - l.slots[0].start) / l.budget.slotLength()
	return margin * float64(sum-most) / float64(slots) / l.budget.Slot().Seconds()
}

// pollsEach is how many polls were sent of late, and for how many operations that began.
func (l *ledger) pollsEach() (polls, began int) {
	for _, s := range l.slots {
		polls += s.count
	}
	began, _ = l.firstPolls()
	return polls, began
}

// newcomerCost is the part of its polls that a new operation is expected to take, by how those
// fared that began of late: each took so many until now, and those that still run will go on.
// Otherwise a row of short operations would be polled as if each lasted.
func (o budgetOutlook) newcomerCost(polls, began int) float64 {
	if began == 0 {
		return 1
	}
	all := o.count(PollPlan{}, make([]float64, len(o.left)), 0, 0, 1)
	running := min(float64(o.total)/float64(began), 1)
	return min(float64(polls)/float64(began)/all+running, 1)
}

// evenShare is the interval of each of n operations if all share the budget alike.
func (b Budget) evenShare(n int) time.Duration {
	return time.Duration(float64(n) * slotsCounted / slotsPerWindow * float64(b.Per) / float64(max(b.N, 1)))
}
