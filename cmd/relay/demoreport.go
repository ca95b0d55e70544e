package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"oprelay/notifier/webhooktest"
)

// check is one thing that the demo promised.
type check struct {
	what string
	held bool
}

// report is what arrived, held against what was promised.
type report struct{ checks []check }

func (r *report) bad() int {
	n := 0
	for _, c := range r.checks {
		if !c.held {
			n++
		}
	}
	return n
}

func (r *report) good() bool { return r.bad() == 0 }

func (r *report) addf(held bool, format string, args ...any) {
	r.checks = append(r.checks, check{fmt.Sprintf(format, args...), held})
}

// report looks at what the receivers and Slack have: not at what the relay says.
func (p *play) report() *report {
	r := &report{}
	for _, s := range p.scenes {
		got := arrivals(p.steady, s.watchID)
		held := len(got) == 1 && got[0].Err == nil
		detail := ""
		if held {
			var body webhookBody
			held = json.Unmarshal(got[0].Body, &body) == nil && body.Type == "operation."+s.ends
			detail = because(body)
		}
		r.addf(held, "%s: one webhook, operation.%s%s, signature verified", s.title, s.ends, detail)
		if s.flaky {
			got := arrivals(p.flaky, s.watchID)
			r.addf(refusedTwice(got), "%s: the flaky receiver refused it twice and accepted the same event at the third attempt", s.title)
		}
		if s.channel != "" {
			m, ok := p.slackMessage(s)
			final := ok && strings.Contains(strings.ToLower(m.Text), s.ends)
			r.addf(final && len(m.History) > 0, "%s: one Slack message, updated in place until it says %q", s.title, s.ends)
		}
	}
	slack := 0
	for _, s := range p.scenes {
		if s.channel != "" {
			slack++
		}
	}
	r.addf(len(p.slack.Messages()) == slack, "Slack has %d messages and no other", slack)
	r.addf(len(p.steady.Arrivals()) == len(p.scenes), "the pipeline got %d webhooks and no other", len(p.scenes))
	return r
}

func because(body webhookBody) string {
	switch {
	case body.Data.Operation.Error != "":
		return fmt.Sprintf(" (%q)", body.Data.Operation.Error)
	case body.Data.Reason != "":
		return " (" + body.Data.Reason + ")"
	}
	return ""
}

// refusedTwice is true for three attempts of one event with the same bytes, all
// verified, of which the last was accepted.
func refusedTwice(got []webhooktest.Arrival) bool {
	if len(got) != 3 || got[0].Status < 300 || got[1].Status < 300 || got[2].Status >= 300 {
		return false
	}
	for _, a := range got {
		if a.Err != nil || a.ID != got[0].ID || string(a.Body) != string(got[0].Body) {
			return false
		}
	}
	return true
}
