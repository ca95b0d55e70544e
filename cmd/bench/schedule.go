package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
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
// when it does.
func (m *million) schedule(ctx context.Context, n int) error {
	interval := m.interval(n).String()
	m.relay.env = with(m.relay.env, "RELAY_POLL_MIN", interval, "RELAY_POLL_MAX", interval)
	return m.relay.schedule(ctx, n, m.interval(n))
}

// schedule restarts what polls the n watches, and returns when it polls each once in an
// interval, steadily. Watches are registered in minutes here that in real life come in
// over days, and would be polled together ever after: so their polls are spread by SQL.
func (r *relay) schedule(ctx context.Context, n int, interval time.Duration) error {
	leading := lead + time.Duration(n)*leadPerWatch
	begun := time.Now()
	err := r.lend(ctx, func(ctx context.Context, d *database) error {
		return d.run(ctx, append([]string{
			fmt.Sprintf(`UPDATE open_operations SET due_at = steady + %d + %s FROM steady_clock WHERE budget_id <> ''`,
				leading.Microseconds(), d.random(interval.Microseconds())),
			`UPDATE work_groups SET due_at = o.due_at, owner = '', leased_until = 0
				FROM (SELECT budget_id, min(due_at) AS due_at FROM open_operations GROUP BY budget_id) o
				WHERE kind = 'poll' AND id = o.budget_id`,
		}, d.tidy...)...)
	})
	if err != nil {
		return err
	}
	before, err := r.b.pollsAgain(ctx)
	if err == nil {
		err = r.goOn()
	}
	if err == nil {
		err = pause(ctx, time.Until(begun.Add(leading)))
	}
	if err != nil {
		return err
	}
	return r.settle(ctx, before)
}

// settle returns when there were polls again, and none is a second late any more.
func (r *relay) settle(ctx context.Context, before float64) error {
	end := time.Now().Add(settleWithin)
	for {
		now, err := r.b.pollsAgain(ctx)
		if err != nil {
			return err
		}
		overdue, err := r.overdue(ctx)
		if err != nil {
			return err
		}
		if now > before && overdue < 1 {
			return nil
		}
		if time.Now().After(end) {
			r.b.sayf("    the schedule is not kept: the oldest poll is %.1f s overdue", overdue)
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
	processes := r.processes()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, processes[len(processes)-1].URL+"/metrics", nil)
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
