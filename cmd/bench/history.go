package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

const (
	// pendingPart is how many watches go on, for each operation of a burst.
	pendingPart = 5
	// templatesMost is how many watches the past is made of.
	templatesMost = 2000
	// A figure may be so much worse beside a long past.
	pastSlack, pastPageSlack = 1.2, 1.5
	// embeddedPart is the part of -ended that SQLite has.
	embeddedPart = 3
	// numbersEach is how many operations each load has to itself.
	numbersEach = 1 << 32
)

// history is a relay with many pending watches, and what its loads know. It is measured
// without a past and, on a database of its own, with one.
type history struct {
	relay       *relay
	destination string
	probe       *load // watches that end at their first poll
	told        int   // events of theirs
	loads       uint64
	past        past
}

// figure is what was measured, by its name; more of a rate is better, of all else less.
type figure struct {
	name, unit string
	value      float64
	slack      float64 // 0 for what is only told
}

// rowHistory is with PostgreSQL and Redis.
func rowHistory(ctx context.Context, b *bench) ([]sample, error) {
	return b.historyRow(ctx, shape{workers: 1}, b.ended, atMost(2500))
}

// rowHistoryEmbedded is with a third of the past, on SQLite and the embedded Redis, in one process.
func rowHistoryEmbedded(ctx context.Context, b *bench) ([]sample, error) {
	return b.historyRow(ctx, shape{embedded: true}, max(1, b.ended/embeddedPart), atMost(1600))
}

// historyRow compares a relay behind which so many watches have ended with one that has
// no past, and then has that past deleted. perWatch bounds the bytes of an ended watch.
func (b *bench) historyRow(ctx context.Context, s shape, ended int, perWatch *target) ([]sample, error) {
	pending := pendingPart * b.operations
	m := million{rate: scheduleOf(pending)}
	s.settings = with(m.settings(pending), "RELAY_RETENTION", "none")
	var without, beside []figure
	var size, deleted []sample
	err := b.onHistory(ctx, s, pending, func(h *history) (err error) {
		without, err = h.figures(ctx, pending, m.interval(pending))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("without a past: %w", err)
	}
	err = b.onHistory(ctx, s, pending, func(h *history) (err error) {
		if size, err = h.grow(ctx, ended, perWatch); err == nil {
			beside, err = h.figures(ctx, pending, m.interval(pending))
		}
		if err == nil {
			deleted, err = h.retention(ctx, beside[0].value)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("with a past: %w", err)
	}
	return append(append(compare(without, beside), size...), deleted...), nil
}

// onHistory runs do with a new relay.
func (b *bench) onHistory(ctx context.Context, s shape, pending int, do func(*history) error) error {
	r, err := b.newRelay(ctx, s, max(1, pending/watchesPerCredential))
	if err != nil {
		return err
	}
	h := history{relay: r}
	h.destination, err = r.destination(ctx, "/webhook/history")
	if err == nil {
		h.probe = r.newLoad(registrationConnections, over, h.destination)
		h.probe.next.Store(h.numbers())
		err = h.probe.signIn(ctx)
	}
	if err == nil {
		err = do(&h)
	}
	return errors.Join(err, r.close(ctx))
}

// lists are those that people ask for.
func (h *history) lists() []list {
	return append(listsOf(h.destination),
		list{"watches that completed, by cursor", fixed("/v1/watches?limit=50&status=completed"), true},
		list{"watches that failed or expired", fixed("/v1/watches?limit=50&status=failed,expired"), false},
		list{"watches by metadata that none has", fixed("/v1/watches?limit=50&metadata[deploy]=none"), false},
		list{"watches of a destination", fixed("/v1/watches?limit=50&destination_id=" + h.destination), false},
		list{"deliveries that wait", fixed("/v1/deliveries?limit=50&status=pending"), false},
		list{"events of a type that none has", fixed("/v1/events?limit=50&type=operation.failed"), false},
		list{"console, home", fixed("/"), false},
		list{"console, watches", fixed("/watches"), false},
		list{"console, deliveries", fixed("/deliveries"), false},
		list{"console, events", fixed("/events"), false},
	)
}

// fill registers what goes on, and returns when it is polled on schedule.
func (h *history) fill(ctx context.Context, pending int, interval time.Duration) error {
	if err := h.relay.newLoad(registrationConnections, hold, h.destination).fill(ctx, pending); err != nil {
		return err
	}
	if err := h.relay.b.upstream.ask(ctx, "GET", "asked/"+strconv.Itoa(pending+h.told), nil); err != nil {
		return err
	}
	if err := h.relay.schedule(ctx, pending, interval); err != nil {
		return err
	}
	h.relay.b.sayf("    %d watches are pending", pending)
	// What has just been started is slower at first; and lists have something to show.
	_, _, err := h.through(ctx, max(h.relay.b.operations/4, 1))
	return err
}

// figures are what is measured with and without a past: of -runs rounds the medians.
// The first is that of a webhook's delay.
func (h *history) figures(ctx context.Context, pending int, interval time.Duration) ([]figure, error) {
	if err := h.fill(ctx, pending, interval); err != nil {
		return nil, err
	}
	var all []figure
	rounds := map[string][]float64{}
	for range h.relay.b.runs {
		got, err := h.measure(ctx)
		if err != nil {
			return nil, err
		}
		all = got
		for _, f := range got {
			rounds[f.name] = append(rounds[f.name], f.value)
		}
	}
	for i, f := range all {
		of := rounds[f.name]
		slices.Sort(of)
		all[i].value = (of[(len(of)-1)/2] + of[len(of)/2]) / 2
	}
	return all, nil
}

func (h *history) measure(ctx context.Context) ([]figure, error) {
	b := h.relay.b
	got, err := h.stream("alone", latencyRate, max(b.operations*3/40, 1)).run(ctx)
	if err != nil {
		return nil, err
	}
	begun, from := time.Now(), h.probe.next.Load()
	took, err := closed(ctx, registrationConnections, b.scaled(3*time.Second), h.probe.one)
	if err != nil {
		return nil, err
	}
	rate := ratio(float64(len(took)), time.Since(begun).Seconds())
	if err := h.await(ctx, int(h.probe.next.Load()-from)); err != nil {
		return nil, err
	}
	meter, err := h.relay.meter(ctx)
	if err != nil {
		return nil, err
	}
	registered, through, err := h.through(ctx, b.operations)
	if err != nil {
		return nil, err
	}
	used, err := meter.cost(ctx)
	if err != nil {
		return nil, err
	}
	all := []figure{
		{"terminal answer to arrival, p99", "ms", millis(percentile(got.arrived, 99)), pastSlack},
		{"terminal answer to arrival, p50", "ms", millis(percentile(got.arrived, 50)), pastSlack},
		{"registration at 100 a second, p50", "ms", millis(percentile(got.registered, 50)), pastSlack},
		{"registration at 100 a second, p99", "ms", millis(percentile(got.registered, 99)), pastSlack},
		{"registration, single, at 16 connections", perSecond, rate, pastSlack},
		{"registration, in batches of 1,000", perSecond, registered, pastSlack},
		{"registered in batches, polled, told and recorded", perSecond, through, pastSlack},
	}
	for _, s := range used.brief("of these, ", float64(b.operations)) {
		f := figure{name: s.Name, unit: s.Unit, value: s.Value}
		if s.Unit == "s" {
			f.slack = pastSlack
		}
		all = append(all, f)
	}
	for _, of := range h.lists() {
		took, err := h.probe.pages(ctx, of)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", of.name, err)
		}
		all = append(all, figure{"page of " + of.name + ", p99", "ms", millis(percentile(took, 99)), pastPageSlack})
	}
	return all, nil
}

// compare are the figures before and after, and one of the other.
func compare(before, after []figure) []sample {
	var all []sample
	for i, f := range before {
		now := after[i]
		all = append(all,
			sample{Name: f.name + ": without a past", Unit: f.unit, Value: f.value},
			sample{Name: now.name + ": with it", Unit: now.unit, Value: now.value},
		)
		if f.slack == 0 {
			continue
		}
		slack := atMost(f.slack)
		if f.unit == perSecond {
			slack = atLeast(1 / f.slack)
		}
		all = append(all, sample{Name: f.name + ", with a past of without", Value: ratio(now.value, f.value), Target: slack})
	}
	return all
}

// over is for operations that are over before they are registered, at random times: so
// their ids are random, as real ids are, and an index on them is as large.
func over(number uint64) operation {
	return operation{1 + rand.Int64N(time.Now().UnixNano()-1), number}
}

// numbers is the number before so many that nothing else has.
func (h *history) numbers() uint64 {
	h.loads++
	return h.loads * numbersEach
}

func (h *history) stream(box string, rate, n int) stream {
	return stream{relay: h.relay, box: box + strconv.FormatUint(h.loads, 10), rate: rate, n: n, first: h.numbers()}
}

// through registers n operations that are over in batches, and returns how many a second
// that are, and how many are polled, told and recorded as well.
func (h *history) through(ctx context.Context, n int) (registered, through float64, err error) {
	begun := time.Now()
	if err := h.probe.fill(ctx, n); err != nil {
		return 0, 0, err
	}
	registered = ratio(float64(n), time.Since(begun).Seconds())
	if err := h.await(ctx, n); err != nil {
		return 0, 0, err
	}
	return registered, ratio(float64(n), time.Since(begun).Seconds()), nil
}

// await returns when n more events of the probe's have arrived and are recorded.
func (h *history) await(ctx context.Context, n int) error {
	b := h.relay.b
	h.told += n
	if err := b.receiver.ask(ctx, "GET", "events/history/"+strconv.Itoa(h.told), nil); err != nil {
		return err
	}
	if err := h.relay.awaitDelivered(ctx); err != nil {
		return err
	}
	got, err := b.inbox(ctx, "history")
	if err == nil && (got.Events != h.told || got.Duplicates+got.Unverified != 0) {
		err = fmt.Errorf("of %d operations %d events told, with %d duplicates; %d signatures were wrong",
			h.told, got.Events, got.Duplicates, got.Unverified)
	}
	return err
}

// grow makes the past and says what it takes. The relay makes the watches of which it is made.
func (h *history) grow(ctx context.Context, ended int, perWatch *target) ([]sample, error) {
	templates := min(templatesMost, ended)
	h.past = past{b: h.relay.b, began: time.Now(), templates: templates, copies: (ended + templates - 1) / templates}
	if _, _, err := h.through(ctx, templates); err != nil {
		return nil, err
	}
	begun := time.Now()
	var bytes int64
	err := h.relay.lend(ctx, func(ctx context.Context, d *database) (err error) {
		h.past.database = d
		bytes, err = h.past.make(ctx)
		return err
	})
	if err := errors.Join(err, h.relay.goOn()); err != nil {
		return nil, err
	}
	n := float64(h.past.watches())
	h.relay.b.sayf("    %.0f watches have ended: made in %.0f s", n, time.Since(begun).Seconds())
	return []sample{
		{Name: "disk for each ended watch with a delivery", Unit: "bytes", Value: float64(bytes) / n, Target: perWatch},
		{Name: "ended watches", Value: n},
	}, nil
}

// retention restarts what works with the default retention, and measures how fast the
// past goes, and a webhook's delay meanwhile; alone is what that was before.
func (h *history) retention(ctx context.Context, alone float64) ([]sample, error) {
	if err := h.relay.halt(); err != nil {
		return nil, err
	}
	delete(h.relay.env, "RELAY_RETENTION")
	begun := time.Now()
	if err := h.relay.goOn(); err != nil {
		return nil, err
	}
	meter, err := h.relay.meter(ctx)
	if err != nil {
		return nil, err
	}
	d, err := h.relay.open()
	if err != nil {
		return nil, err
	}
	h.past.database = d
	rate, arrived, err := h.beside(ctx, begun)
	if err := errors.Join(err, d.close()); err != nil {
		return nil, err
	}
	used, err := meter.cost(ctx)
	p99 := millis(percentile(arrived, 99))
	return append([]sample{
		{Name: "ended watches deleted", Unit: perSecond, Value: rate, Target: atLeast(3000)},
		{Name: "beside that, terminal answer to arrival, p99", Unit: "ms", Value: p99},
		{Name: "beside that, p99 of p99 before", Value: ratio(p99, alone), Target: atMost(1.5)},
	}, used.full("beside that, each webhook, ", float64(len(arrived)))...), err
}

// beside measures webhooks' delays while the past is deleted, and how many of its watches
// are in a second since then, until all are or no webhook is left to come.
func (h *history) beside(ctx context.Context, since time.Time) (rate float64, arrived []time.Duration, err error) {
	if _, err := h.past.awaitOldest(ctx, h.past.first()); err != nil {
		return 0, nil, err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	emptied := make(chan time.Time, 1)
	go func() {
		if at, err := h.past.awaitOldest(watching, h.past.end()); err == nil { // else it is not empty
			emptied <- at
		}
	}()
	n := max(h.relay.b.operations/20, 1) // 1,000 of 20,000
	// What has just been started is slower at first.
	if _, err := h.stream("warm", neighbourRate, max(n/10, 1)).run(ctx); err != nil {
		return 0, nil, err
	}
	got, err := h.stream("beside", neighbourRate, n).run(ctx)
	if err != nil {
		return 0, nil, err
	}
	select {
	case at := <-emptied:
		return ratio(float64(h.past.watches()), at.Sub(since).Seconds()), got.arrived, nil
	default:
	}
	now := time.Now()
	left, err := h.past.left(ctx)
	return ratio(float64(h.past.watches()-left), now.Sub(since).Seconds()), got.arrived, err
}
