package main

import (
	"context"
	"encoding/json"
	"time"

	"oprelay/cmd/bench/chart"
)

// pagesEach is how many pages of each list are asked for.
const pagesEach = 100

// list is one that people ask for.
type list struct {
	name string
	path func(i int) string
	// follows says that each page is the one after the page before.
	follows bool
}

func (m *million) listsOf() []list {
	fixed := func(path string) func(int) string { return func(int) string { return path } }
	return []list{
		{"watches", fixed("/v1/watches?limit=50"), false},
		{"watches, by cursor", fixed("/v1/watches?limit=50"), true},
		{"watches that go on", fixed("/v1/watches?status=watching&limit=50"), false},
		{"watches of an operation", func(i int) string { return "/v1/watches?operation_id=" + hold(uint64(i+1)).String() }, false},
		{"deliveries", fixed("/v1/deliveries?limit=50"), false},
		{"deliveries to a destination, by cursor", fixed("/v1/deliveries?limit=50&destination_id=" + m.destination), true},
		{"events, by cursor", fixed("/v1/events?limit=50"), true},
	}
}

// pages asks for lists in the ways that people do, and returns what each takes.
func (m *million) pages(ctx context.Context, p *chart.Point) ([]sample, error) {
	var all []sample
	var together []time.Duration
	for _, of := range m.listsOf() {
		took, err := m.list(ctx, of)
		if err != nil {
			return nil, err
		}
		together = append(together, took...)
		all = append(all, sample{Name: "at the most: page of " + of.name + ", p99", Unit: "ms", Value: millis(percentile(sorted(took), 99))})
	}
	sorted(together)
	p.ListP50, p.ListP99 = millis(percentile(together, 50)), millis(percentile(together, 99))
	return all, nil
}

func (m *million) list(ctx context.Context, of list) ([]time.Duration, error) {
	var took []time.Duration
	cursor := ""
	for i := range max(1, pagesEach*m.relay.b.operations/fullSize) {
		begun := time.Now()
		body, err := m.pending.get(ctx, of.path(i)+cursor)
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
	return took, nil
}
