package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"oprelay/cmd/bench/chart"
)

const (
	watchesPerCredential = 100

	probeRate, probes = 50, 500
	// measureFor is how long the schedule is measured at each size, at least.
	measureFor = 10 * time.Second
)

// million registers watches by powers of ten, and measures at each what depends on
// how many there are, while as many are polled in a second as at any other.
type million struct {
	relay       *relay
	destination string
	pending     *load // watches that go on
	probe       *load // watches that end at their first poll, so that as many stay pending
	rate        int   // polls a second on schedule
	asked       int   // operations that the upstream was asked about, once all are
	lists       []sample
	filling     []sample // what the last step cost: registrations and first polls
	keeping     []sample // what keeping the schedule cost at the last size
}

func rowMillion(ctx context.Context, b *bench) ([]sample, error) {
	m := million{rate: scheduleOf(b.watches)}
	r, err := b.newRelay(ctx, shape{workers: 1, settings: m.settings(sizes(b.watches)[0])}, max(1, b.watches/watchesPerCredential))
	if err != nil {
		return nil, err
	}
	m.relay = r
	samples, err := m.run(ctx)
	return samples, errors.Join(err, r.close(ctx))
}

func (m *million) run(ctx context.Context) ([]sample, error) {
	var err error
	if m.destination, err = m.relay.destination(ctx, "/webhook/million"); err != nil {
		return nil, err
	}
	b := m.relay.b
	m.pending = m.relay.newLoad(registrationConnections, hold, m.destination)
	m.probe = m.relay.newLoad(registrationConnections,
		func(number uint64) operation { return until(time.Now(), number) }, m.destination)
	const probesFrom = 1 << 40
	m.probe.next.Store(probesFrom)
	var all []sample
	var points []chart.Point
	for _, n := range sizes(b.watches) {
		p, err := m.point(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("at %d watches: %w", n, err)
		}
		points, all = append(points, p), append(all, told(p)...)
		// The fewest have a credential each, so that on schedule polls come one by one
		// at every size. Whoever registers many at once has few credentials.
		m.pending.inARow = watchesPerCredential
	}
	b.points = append(b.points, points...)
	all = append(append(all, m.lists...), m.judge(points[0], points[len(points)-1])...)
	disturbed, err := m.disturb(ctx)
	return append(append(append(all, disturbed...), m.filling...), m.keeping...), err
}

// sizes are the powers of ten from a thousand on, and most itself.
func sizes(most int) []int {
	var all []int
	for n := 1000; n < most; n *= 10 {
		all = append(all, n)
	}
	return append(all, most)
}

// point is all that is measured with so many watches.
func (m *million) point(ctx context.Context, n int) (p chart.Point, err error) {
	p.Watches = n
	if err := m.fill(ctx, &p); err != nil {
		return p, err
	}
	m.relay.b.sayf("    %d watches are registered and polled", n)
	if err := m.schedule(ctx, n); err != nil {
		return p, err
	}
	if err := m.measure(ctx, &p); err != nil {
		return p, err
	}
	if p.Overdue, err = m.relay.overdue(ctx); err != nil {
		return p, err
	}
	peak, err := m.relay.peaks()
	if err != nil {
		return p, err
	}
	p.API, p.Worker = peak["api"], peak["worker"]
	used, err := m.relay.b.redisNumber(ctx, "memory", "used_memory")
	p.Redis = used / (1 << 20)
	return p, err
}

// fill registers what is missing and waits until each was polled.
func (m *million) fill(ctx context.Context, p *chart.Point) error {
	meter, err := m.relay.meter(ctx)
	if err != nil {
		return err
	}
	missing := p.Watches - int(m.pending.next.Load())
	begun := time.Now()
	if err := m.pending.fill(ctx, missing); err != nil {
		return err
	}
	p.RegistrationRate = ratio(float64(missing), time.Since(begun).Seconds())
	m.asked += missing
	if err := m.relay.b.upstream.ask(ctx, "GET", "asked/"+strconv.Itoa(m.asked), nil); err != nil {
		return err
	}
	p.FirstPollRate = ratio(float64(missing), time.Since(begun).Seconds())
	used, err := meter.cost(ctx)
	m.filling = used.brief("each registered and polled, ", float64(missing))
	return err
}

// measure is what registrations and pages take while the schedule goes on, and how
// it is kept meanwhile.
func (m *million) measure(ctx context.Context, p *chart.Point) error {
	b := m.relay.b
	meter, err := m.relay.meter(ctx)
	if err != nil {
		return err
	}
	before, err := b.pollsAgain(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	registrations := max(1, min(probes, p.Watches)*b.operations/fullSize)
	took, err := open(ctx, probeRate, registrations, m.probe.one)
	if err != nil {
		return err
	}
	m.asked += registrations
	p.RegistrationP50, p.RegistrationP99 = millis(percentile(took, 50)), millis(percentile(took, 99))
	if m.lists, err = m.pages(ctx, p); err != nil {
		return err
	}
	if err := pause(ctx, time.Until(begun.Add(b.scaled(measureFor)))); err != nil {
		return err
	}
	after, err := b.pollsAgain(ctx)
	if err != nil {
		return err
	}
	p.PollRate = (after - before) / time.Since(begun).Seconds()
	used, err := meter.cost(ctx)
	m.keeping = used.full("on schedule, each poll, ", after-before)
	return err
}

// judge compares the most watches with the fewest, and with the targets.
func (m *million) judge(first, last chart.Point) []sample {
	return []sample{
		{Name: "registration p99, of that at the fewest", Value: ratio(last.RegistrationP99, first.RegistrationP99), Target: atMost(2)},
		{Name: "list page p99, of that at the fewest", Value: ratio(last.ListP99, first.ListP99), Target: atMost(2)},
		{Name: "polls, of those on schedule", Value: ratio(last.PollRate, float64(m.rate)), Target: atLeast(0.95)},
		{Name: "relay's processes together, peak", Unit: "MiB", Value: last.API + last.Worker, Target: atMost(500)},
		{Name: "Redis", Unit: "MiB", Value: last.Redis, Target: atMost(1024)},
	}
}

// told is a point as samples.
func told(p chart.Point) []sample {
	at := func(what string) string { return fmt.Sprintf("at %d: %s", p.Watches, what) }
	return []sample{
		{Name: at("registered in batches"), Unit: perSecond, Value: p.RegistrationRate},
		{Name: at("registered and polled"), Unit: perSecond, Value: p.FirstPollRate},
		{Name: at("polls on schedule"), Unit: perSecond, Value: p.PollRate},
		{Name: at("oldest overdue poll"), Unit: "s", Value: p.Overdue},
		{Name: at("registration, p50"), Unit: "ms", Value: p.RegistrationP50},
		{Name: at("registration, p99"), Unit: "ms", Value: p.RegistrationP99},
		{Name: at("list page, p50"), Unit: "ms", Value: p.ListP50},
		{Name: at("list page, p99"), Unit: "ms", Value: p.ListP99},
		{Name: at("peak memory: api"), Unit: "MiB", Value: p.API},
		{Name: at("peak memory: worker"), Unit: "MiB", Value: p.Worker},
		{Name: at("Redis"), Unit: "MiB", Value: p.Redis},
	}
}

// pagesEach is how many pages of each list are asked for.
const pagesEach = 100

// list is one that people ask for.
type list struct {
	name string
	path func(i int) string
	// follows says that each page is the one after the page before.
	follows bool
}

// fixed is the same path each time.
func fixed(path string) func(int) string { return func(int) string { return path } }

// listsOf are those that people ask for most, of the destination where it takes one.
func listsOf(destination string) []list {
	return []list{
		{"watches", fixed("/v1/watches?limit=50"), false},
		{"watches, by cursor", fixed("/v1/watches?limit=50"), true},
		{"watches that go on", fixed("/v1/watches?status=watching&limit=50"), false},
		{"watches of an operation", func(i int) string { return "/v1/watches?operation_id=" + hold(uint64(i+1)).String() }, false},
		{"deliveries", fixed("/v1/deliveries?limit=50"), false},
		{"deliveries to a destination, by cursor", fixed("/v1/deliveries?limit=50&destination_id=" + destination), true},
		{"events, by cursor", fixed("/v1/events?limit=50"), true},
	}
}

// pages asks for lists in the ways that people do, and returns what each takes.
func (m *million) pages(ctx context.Context, p *chart.Point) ([]sample, error) {
	var all []sample
	var together []time.Duration
	for _, of := range listsOf(m.destination) {
		took, err := m.pending.pages(ctx, of)
		if err != nil {
			return nil, err
		}
		together = append(together, took...)
		all = append(all, sample{Name: "at the most: page of " + of.name + ", p99", Unit: "ms", Value: millis(percentile(took, 99))})
	}
	sorted(together)
	p.ListP50, p.ListP99 = millis(percentile(together, 50)), millis(percentile(together, 99))
	return all, nil
}

// pages asks for pages of a list, one after the other, and returns how long each took.
func (l *load) pages(ctx context.Context, of list) ([]time.Duration, error) {
	var took []time.Duration
	cursor := ""
	for i := range max(1, pagesEach*l.relay.b.operations/fullSize) {
		begun := time.Now()
		body, err := l.get(ctx, of.path(i)+cursor)
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun))
		if !of.follows {
			continue
		}
		var page struct {
			Next *string `json:"next_cursor"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return nil, err
		}
		if cursor = ""; page.Next != nil {
			cursor = "&cursor=" + *page.Next
		}
	}
	return sorted(took), nil
}
