package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"oprelay/deploy/testenv"
)

const (
	// scheduledPolls is how many polls all watches together ask for in a second, at
	// each size. They are of as many credentials, so nothing is shared between them:
	// about half a processor, so that two carry it beside the rest.
	scheduledPolls = 250
	// leadPerWatch is about what spreading the polls takes, and is over before the
	// first of them is due.
	leadPerWatch, lead = 30 * time.Microsecond, 2 * time.Second
	// settleWithin is how long a relay may take to keep the schedule; then it is
	// measured as it is.
	settleWithin = time.Minute
)

// scheduleOf is how many polls a second so many watches ask for, of the largest size:
// few enough that none of them comes twice while it is measured.
func scheduleOf(watches int) int { return max(1, min(scheduledPolls, watches/40)) }

// settings are under which so many watches ask for the scheduled polls.
func (m *million) settings(n int) map[string]string {
	interval := m.interval(n).String()
	return with(lifted(), "RELAY_POLL_MIN", interval, "RELAY_POLL_MAX", interval)
}

// interval is from one poll of a watch to the next.
func (m *million) interval(n int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(m.rate)
}

// schedule makes the worker poll each watch once in an interval, steadily, and returns
// when it does. Watches are registered in minutes here that in real life come in over
// days, and would be polled together ever after: so their polls are spread by SQL.
func (m *million) schedule(ctx context.Context, n int) error {
	r := m.relay
	if err := r.kill(r.worker...); err != nil {
		return err
	}
	r.worker = nil
	interval, leading := m.interval(n), lead+time.Duration(n)*leadPerWatch
	begun := time.Now()
	for _, statement := range []string{
		fmt.Sprintf(`UPDATE open_operations SET due_at = steady + %d + (random() * %d)::bigint FROM steady_clock WHERE budget_id <> ''`,
			leading.Microseconds(), interval.Microseconds()),
		`UPDATE work_groups SET due_at = o.due_at, owner = '', leased_until = 0
			FROM (SELECT budget_id, min(due_at) AS due_at FROM open_operations GROUP BY budget_id) o
			WHERE kind = 'poll' AND id = o.budget_id`,
		// What would be done anyway, and at some of the sizes just while it is measured.
		"VACUUM ANALYZE", "CHECKPOINT",
	} {
		if _, err := testenv.Query(ctx, r.env["RELAY_DATABASE_URL"], statement); err != nil {
			return err
		}
	}
	r.env = with(r.env, "RELAY_POLL_MIN", interval.String(), "RELAY_POLL_MAX", interval.String())
	before, err := r.b.pollsAgain(ctx)
	if err == nil {
		err = r.startWorkers()
	}
	if err == nil {
		err = pause(ctx, time.Until(begun.Add(leading)))
	}
	if err != nil {
		return err
	}
	return m.settle(ctx, before)
}

// settle returns when there were polls again, and none is a second late any more.
func (m *million) settle(ctx context.Context, before float64) error {
	end := time.Now().Add(settleWithin)
	for {
		now, err := m.relay.b.pollsAgain(ctx)
		if err != nil {
			return err
		}
		overdue, err := m.relay.overdue(ctx)
		if err != nil {
			return err
		}
		if now > before && overdue < 1 {
			return nil
		}
		if time.Now().After(end) {
			m.relay.b.sayf("    the schedule is not kept: the oldest poll is %.1f s overdue", overdue)
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// pollsAgain is how many polls there were of operations that had been polled before.
func (b *bench) pollsAgain(ctx context.Context) (float64, error) {
	var report upstreamReport
	err := b.upstream.ask(ctx, "GET", "count", &report)
	return float64(report.Answers - int64(report.Operations)), err
}

// overdue is for how many seconds the poll that waits the longest is overdue, as
// the worker's own metric has it.
func (r *relay) overdue(ctx context.Context) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.worker[0].URL+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), `relay_oldest_overdue_seconds{kind="poll"} `); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, nil // nothing was due yet
}
