package main

import (
	"cmp"
	"math"
	"slices"
)

// target is what a measure is to reach.
type target struct {
	Bound  float64 `json:"bound"`
	AtMost bool    `json:"at_most"` // else at least
}

func atLeast(bound float64) *target { return &target{Bound: bound} }
func atMost(bound float64) *target  { return &target{Bound: bound, AtMost: true} }

func (t *target) met(value float64) bool {
	if t.AtMost {
		return value <= t.Bound
	}
	return value >= t.Bound
}

// sample is one number that a row has measured in one round.
type sample struct {
	Name   string
	Unit   string
	Value  float64
	Target *target // nil for what is only told
	Note   string  // said beside the number
}

// measure is a row's number over all rounds.
type measure struct {
	Row    string    `json:"row"`
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
	Min    float64   `json:"min"`
	Median float64   `json:"median"`
	Max    float64   `json:"max"`
	Target *target   `json:"target,omitempty"`
	Note   string    `json:"note,omitempty"` // of the last round
	// Met says whether the median reaches the target; nil without one.
	Met *bool `json:"met,omitempty"`
}

// measures are in the order in which they were measured first, of each row those
// with a target before the others.
type measures []*measure

// with is the measures and what a row has measured in one round.
func (all measures) with(row string, samples []sample) measures {
	slices.SortStableFunc(samples, func(a, b sample) int { return cmp.Compare(rank(a), rank(b)) })
	for _, s := range samples {
		i := slices.IndexFunc(all, func(m *measure) bool { return m.Row == row && m.Name == s.Name })
		if i < 0 {
			i = len(all)
			all = append(all, &measure{Row: row, Name: s.Name, Unit: s.Unit, Target: s.Target})
		}
		all[i].take(s.Value)
		all[i].Note = s.Note
	}
	return all
}

// rank is 0 with a target, 1 without.
func rank(s sample) int {
	if s.Target != nil {
		return 0
	}
	return 1
}

func (m *measure) take(value float64) {
	m.Values = append(m.Values, value)
	inOrder := slices.SortedFunc(slices.Values(m.Values), cmp.Compare[float64])
	m.Min, m.Max = inOrder[0], inOrder[len(inOrder)-1]
	m.Median = (inOrder[(len(inOrder)-1)/2] + inOrder[len(inOrder)/2]) / 2
	if m.Target != nil {
		m.Met = new(m.Target.met(m.Median))
	}
}

// ratio is a of b, 0 if b was not measured.
func ratio(a, b float64) float64 {
	if b == 0 || math.IsNaN(b) {
		return 0
	}
	return a / b
}
