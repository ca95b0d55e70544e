package main

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/webhooktest"
)

// Redis loses everything while watches are pending and deliveries wait for a
// retry: what is promised is in SQL.
func TestFlushedRedisLosesNothing(t *testing.T) {
	t.Parallel()
	const pending, waiting = 500, 200
	server := testenv.StartRedis(t)
	s := startSeparate(t, newSurroundings(t), server.URL, 1, "RELAY_RETRY_SCHEDULE", strings.Repeat("5s,", 11)+"5s")
	credential := s.credential(t, "token")
	// Nothing is accepted before the flush. The destinations are many, for one that
	// does nothing but fail is soon tried with one delivery at a time.
	s.receiver.Respond(webhooktest.Always(webhooktest.Answer{Status: http.StatusServiceUnavailable}))
	ids := s.operations(waiting, simulator.Plan{})
	for some := range slices.Chunk(ids, 5) {
		s.watches(t, credential, s.webhook(t), some)
	}
	if _, err := s.receiver.Wait(deadline(t, startLimit), webhooktest.Count(waiting)); err != nil {
		t.Fatal(err)
	}
	eventually(t, startLimit, "the deliveries wait for a retry", func() bool {
		got := s.deliveries(t, client.ListDeliveriesParams{Status: new(client.DeliveryPending)})
		tried := 0
		for _, d := range got {
			if d.AttemptsMade > 0 {
				tried++
			}
		}
		return tried == waiting
	})
	ids = append(ids, s.operations(pending, simulator.Plan{RunningFor: 3 * time.Second})...)
	s.watches(t, credential, s.webhook(t), ids[waiting:])

	flushAll(t, server.URL)
	s.receiver.Respond(webhooktest.Always(webhooktest.Answer{}))

	s.allAccepted(t, len(ids), time.Minute)
	s.ended(t, ids)
}

// flushAll has the Redis at the URL forget everything.
func flushAll(t *testing.T, url string) {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	flusher := redis.NewClient(options)
	defer func() { _ = flusher.Close() }()
	if err := flusher.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

// operations makes as many of a kind known upstream.
func (s *surroundings) operations(n int, plan simulator.Plan) []string {
	s.t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = s.add(plan)
	}
	return ids
}

// allAccepted waits until that many different events were accepted, each sent
// with the same bytes every time.
func (s *system) allAccepted(t *testing.T, n int, limit time.Duration) {
	t.Helper()
	arrivals, err := s.receiver.Wait(deadline(t, limit), func(arrivals []webhooktest.Arrival) bool { return len(accepted(arrivals)) == n })
	if err != nil {
		t.Fatalf("%v; %d of %d events were accepted, in %d requests", err, len(accepted(arrivals)), n, len(arrivals))
	}
	first := map[string]webhooktest.Arrival{}
	for _, a := range arrivals {
		if a.Err != nil {
			t.Errorf("event %s does not verify: %v", a.ID, a.Err)
		}
		if before, ok := first[a.ID]; !ok {
			first[a.ID] = a
		} else if !bytes.Equal(before.Body, a.Body) {
			t.Errorf("event %s changed between its attempts:\n%s\n%s", a.ID, before.Body, a.Body)
		}
	}
	if len(first) != n {
		t.Errorf("%d different events arrived, want %d", len(first), n)
	}
}

// accepted counts how often each event was accepted.
func accepted(arrivals []webhooktest.Arrival) map[string]int {
	counts := map[string]int{}
	for _, a := range arrivals {
		if a.Status == http.StatusNoContent {
			counts[a.ID]++
		}
	}
	return counts
}

// ended wants exactly one event for each operation, and none besides.
func (s *system) ended(t *testing.T, operationIDs []string) {
	t.Helper()
	events := map[string]int{}
	for _, e := range s.events(t) {
		events[e.ID]++
	}
	if len(events) != len(operationIDs) {
		t.Errorf("%d events for %d watches", len(events), len(operationIDs))
	}
	for id := range accepted(s.receiver.Arrivals()) {
		if events[id] != 1 {
			t.Errorf("event %s arrived and is %d times in the feed", id, events[id])
		}
	}
	eventually(t, startLimit, "every delivery is recorded as accepted", func() bool {
		return len(s.deliveries(t, client.ListDeliveriesParams{Status: new(client.DeliverySucceeded)})) == len(operationIDs)
	})
}

// A worker is killed while requests to a receiver are under way; whoever comes
// next delivers everything within half a minute.
func TestKillInTheMiddleOfDeliveries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		start   func(t *testing.T) *system
		victim  func(s *system) *relay
		restart func(s *system)
	}{
		"the only worker": {
			func(t *testing.T) *system {
				t.Helper()
				return startSeparate(t, newSurroundings(t), testenv.Redis(t), 1)
			},
			func(s *system) *relay { return s.workers[0] },
			(*system).addWorker,
		},
		"serve, embedded": {
			func(t *testing.T) *system {
				t.Helper()
				return startEmbedded(t, newSurroundings(t))
			},
			func(s *system) *relay { return s.server },
			(*system).restart,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const total, before = 200, 60
			s := c.start(t)
			// The first few are accepted; then the receiver leaves everything hanging,
			// so that there are requests under way, and others accepted but not yet
			// recorded, when the process dies.
			seen := 0
			s.receiver.Respond(func(webhooktest.Arrival) webhooktest.Answer {
				seen++
				return webhooktest.Answer{Hang: seen > before}
			})
			ids := s.operations(total, simulator.Plan{RunningFor: time.Second})
			s.watches(t, s.credential(t, "token"), s.webhook(t), ids)
			if _, err := s.receiver.Wait(deadline(t, startLimit), webhooktest.Count(before+1)); err != nil {
				t.Fatal(err)
			}
			c.victim(s).Kill()
			s.receiver.Respond(webhooktest.Always(webhooktest.Answer{}))
			c.restart(s)
			s.allAccepted(t, total, 30*time.Second)
			s.ended(t, ids)
		})
	}
}
