package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/jobs/deliver"
	"oprelay/notifier/slacktest"
	"oprelay/notifier/webhooktest"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// counter is a receiver's handler that counts how many requests it has at a time.
type counter struct {
	next  http.Handler
	takes time.Duration

	mu       sync.Mutex
	now, max int
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.count(1)
	defer c.count(-1)
	wait(r.Context(), c.takes)
	c.next.ServeHTTP(w, r)
}

func (c *counter) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += n
	c.max = max(c.max, c.now)
}

// most is the largest number since it was last asked.
func (c *counter) most() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := c.max
	c.max = c.now
	return most
}

// counted puts a counter in front of the destination that n is to make.
func counted(t *testing.T, n *storage.NewDestination, to http.Handler, takes time.Duration) *counter {
	t.Helper()
	c := &counter{next: to, takes: takes}
	n.URL = serve(t, c)
	return c
}

func refusing() webhooktest.Script {
	return webhooktest.Always(webhooktest.Answer{Status: http.StatusInternalServerError})
}

func TestHangingDestinationDelaysNoOther(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.deliver.Timeout = patience
			hanging, healthy := r.webhook(nil), r.webhook(nil)
			hanging.Respond(webhooktest.Always(webhooktest.Answer{Hang: true}))
			r.start()
			r.watch(r.credential("token"), operations("op", 60), hanging.id, healthy.id)
			r.await(healthy, 60)
			r.await(hanging, 20) // as many as it may have under way
			for _, d := range r.deliveries(hanging.id) {
				if d.AttemptsMade != 0 || d.Status != storage.DeliveryPending {
					t.Errorf("it was waited for: %+v", d)
				}
			}
			if n := len(hanging.Arrivals()); n != 20 {
				t.Errorf("%d requests at a time", n)
			}
		})
	}
}

func TestFailingDestinationIsProbed(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.deliver.Retry = slices.Repeat(deliver.RetrySchedule{20 * time.Millisecond}, 1000)
			var at *counter
			// It is made twice: once for its receiver, once to count in front of it.
			stand := r.webhook(nil)
			counting := r.webhook(func(n *storage.NewDestination) { at = counted(t, n, stand, 20*time.Millisecond) })
			stand.Respond(refusing())
			r.start()
			credential := r.credential("token")
			r.watch(credential, []string{"first"}, counting.id)
			eventually(t, func() bool { return r.destination(counting.id).ConsecutiveFailures > 5 }, nil, "failures in a row")
			at.most()
			r.watch(credential, operations("op", 20), counting.id)
			seen := len(stand.Arrivals())
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if _, err := stand.Wait(ctx, webhooktest.Count(seen+20)); err != nil {
				t.Fatal(err)
			}
			if most := at.most(); most != 1 {
				t.Errorf("%d requests at a time to a destination that fails", most)
			}
			stand.Respond(webhooktest.Always(webhooktest.Answer{}))
			r.settled(21, counting.id, storage.DeliverySucceeded)
			if d := r.destination(counting.id); d.ConsecutiveFailures != 0 || !d.FailingSince.IsZero() {
				t.Errorf("accepted, and still %+v", d)
			}
		})
	}
}

// Attempts are recorded together, but for those whose destinations somebody else has
// locked: these keep nobody waiting.
func TestALockedDestinationKeepsNobody(t *testing.T) {
	t.Parallel()
	b, url := postgresBackend(), testenv.Postgres(t)
	b.database = func(*testing.T) string { return url }
	r := newRelay(t, b)
	all := []receiver{r.webhook(nil), r.webhook(nil), r.webhook(nil)}
	locked, free := all[:2], all[2] // as many as commit at a time
	r.start()
	release := lock(t, url, `SELECT 1 FROM destinations WHERE id IN ('`+testenv.UUID(locked[0].id)+`', '`+testenv.UUID(locked[1].id)+`') FOR NO KEY UPDATE`)
	defer release()
	credential := r.credential("token")
	for i, to := range all {
		r.watch(credential, operations(fmt.Sprint("op", i), 3), to.id)
		r.await(to, 3) // and so a commit for the locked ones is under way, or waits
	}
	r.settled(3, free.id, storage.DeliverySucceeded)
	for _, to := range locked {
		r.settled(3, to.id, storage.DeliveryPending)
	}
	release()
	for _, to := range locked {
		r.settled(3, to.id, storage.DeliverySucceeded)
	}
}

// lock has a session of its own run the query and hold what that locks, until it is
// released.
func lock(t *testing.T, url, query string) (release func()) {
	t.Helper()
	const sleeping = ` FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = testenv.Query(t.Context(), url, query+`; SELECT pg_sleep(600)`) // it is terminated
	}()
	eventually(t, func() bool {
		n, err := testenv.Query(t.Context(), url, `SELECT count(*)`+sleeping)
		return err == nil && n == "1"
	}, nil, "the lock")
	return func() {
		testenv.Execute(t, url, `SELECT pg_terminate_backend(pid)`+sleeping)
		<-ended
	}
}

// The rate holds whichever of two workers sends.
func TestRateLimitOfADestination(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			const perSecond, messages = 4, 9
			to := r.webhook(func(n *storage.NewDestination) { n.RateLimit = perSecond })
			r.start()
			r.start()
			credential := r.credential("token")
			for i, id := range operations("op", messages) { // one by one, so that each worker gets some
				r.watch(credential, []string{id}, to.id)
				r.await(to, i+1)
			}
			arrivals := r.await(to, messages)
			least := (messages - 1) * time.Second / perSecond
			if took := arrivals[messages-1].At.Sub(arrivals[0].At); took < least-least/10 {
				t.Errorf("%d messages in %v, want at least %v", messages, took, least)
			}
		})
	}
}

func TestDestinationDisabledAfterFailures(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.deliver.Retry = slices.Repeat(deliver.RetrySchedule{50 * time.Millisecond}, 1000)
			r.deliver.DisableAfter = 500 * time.Millisecond
			to := r.webhook(nil)
			alerts := r.webhook(func(n *storage.NewDestination) { n.Alerts = true })
			to.Respond(refusing())
			r.start()
			r.watch(r.credential("token"), operations("op", 3), to.id)
			r.settled(3, to.id, storage.DeliveryHeld)
			d := r.destination(to.id)
			if d.Status != storage.DestinationDisabled || d.DisabledReason != storage.DisabledFailing {
				t.Errorf("got %+v", d)
			}
			r.await(alerts, 1)
			requests := len(to.Arrivals())
			to.Respond(webhooktest.Always(webhooktest.Answer{}))
			if _, err := r.store.EnableDestination(t.Context(), r.tenant, to.id); err != nil {
				t.Fatal(err)
			}
			r.settled(3, to.id, storage.DeliverySucceeded)
			if n := len(to.Arrivals()); n != requests+3 {
				t.Errorf("%d requests after it was enabled, want 3", n-requests)
			}
			if n := len(r.lines.holding("a destination is disabled")); n != 1 {
				t.Errorf("logged %d times", n)
			}
		})
	}
}

func TestGoneDestination(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			to := r.webhook(func(n *storage.NewDestination) { n.MaxInFlight = 1 })
			to.Respond(webhooktest.Always(webhooktest.Answer{Status: http.StatusGone}))
			r.start()
			r.watch(r.credential("token"), operations("op", 5), to.id)
			held := r.settled(5, to.id, storage.DeliveryHeld)
			if d := r.destination(to.id); d.DisabledReason != storage.DisabledGone {
				t.Errorf("got %+v", d)
			}
			made := 0
			for _, d := range held {
				made += d.AttemptsMade
			}
			if n := len(to.Arrivals()); n != 1 || made != 1 {
				t.Errorf("%d requests, %d attempts; want 1 of each", n, made)
			}
		})
	}
}

func TestScheduleIsUsedUp(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			to := r.webhook(nil)
			to.Respond(refusing())
			r.start()
			r.watch(r.credential("token"), []string{"op"}, to.id)
			failed := r.settled(1, to.id, storage.DeliveryFailed)[0]
			attempts := r.attempts(failed.ID)
			if len(attempts) != 4 || failed.AttemptsMade != 4 {
				t.Fatalf("%d attempts by a schedule of three delays", len(attempts))
			}
			for i := range attempts[1:] {
				if gap := attempts[i+1].StartedAt.Sub(attempts[i].StartedAt); gap < 50*time.Millisecond {
					t.Errorf("attempt %d after %v", i+2, gap)
				}
			}
			to.Respond(webhooktest.Always(webhooktest.Answer{}))
			if _, err := r.store.Redeliver(t.Context(), r.tenant, failed.ID); err != nil {
				t.Fatal(err)
			}
			r.settled(1, to.id, storage.DeliverySucceeded)
			arrivals := r.await(to, 5)
			for _, a := range arrivals {
				if a.ID != arrivals[0].ID || string(a.Body) != string(arrivals[0].Body) {
					t.Error("an attempt differs from the first")
				}
			}
		})
	}
}

// What is in flight when a worker is told to stop ends, and is recorded once.
func TestStopLetsADeliveryEnd(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			goOn := make(chan struct{})
			arrived := make(chan struct{}, 10)
			to := r.webhook(func(n *storage.NewDestination) {
				n.MaxInFlight = 1
				n.URL = serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
					arrived <- struct{}{}
					<-goOn
				}))
			})
			w := r.start()
			r.watch(r.credential("token"), operations("op", 3), to.id)
			<-arrived
			stopped := make(chan error)
			go func() { stopped <- w.Stop(t.Context()) }()
			select {
			case err := <-stopped:
				t.Errorf("it did not wait: %v", err)
			case <-time.After(200 * time.Millisecond):
			}
			close(goOn)
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			statuses := map[string]int{}
			for _, d := range r.deliveries(to.id) {
				statuses[d.Status] += d.AttemptsMade
			}
			if statuses[storage.DeliverySucceeded] != 1 || statuses[storage.DeliveryPending] != 0 || len(arrived) != 0 {
				t.Errorf("attempts by status: %v, and %d more requests", statuses, len(arrived))
			}
			// Its lease is free: another worker goes on at once.
			group := storage.Group{Kind: storage.DeliverGroup, ID: to.id}
			if ok, err := r.store.LeaseGroup(t.Context(), group, "next", leaseTTL); err != nil || !ok {
				t.Errorf("%v: leased: %v", err, ok)
			}
			if _, err := r.store.ReleaseGroup(t.Context(), group, "next", storage.Pause{}); err != nil {
				t.Error(err)
			}
			r.start()
			r.settled(3, to.id, storage.DeliverySucceeded)
		})
	}
}

// A worker that dies records nothing; another takes over when its lease runs out.
func TestTakeOverFromADeadWorker(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			to := r.webhook(nil)
			to.Respond(webhooktest.FirstArrivals(1, webhooktest.Answer{Hang: true}))
			w := r.start()
			r.watch(r.credential("token"), []string{"op"}, to.id)
			r.await(to, 1)
			dead, cancel := context.WithCancel(t.Context())
			cancel()
			if err := w.Stop(dead); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if d := r.deliveries(to.id)[0]; d.AttemptsMade != 0 || d.Status != storage.DeliveryPending {
				t.Errorf("recorded: %+v", d)
			}
			r.start()
			arrivals := r.await(to, 2)
			if took := arrivals[1].At.Sub(arrivals[0].At); took > 2*leaseTTL {
				t.Errorf("taken over after %v", took)
			}
			delivery := r.settled(1, to.id, storage.DeliverySucceeded)[0]
			if delivery.AttemptsMade != 1 || arrivals[0].ID != arrivals[1].ID {
				t.Errorf("got %+v", delivery)
			}
		})
	}
}

// What was due at a destination that is deleted is no fault and no endless work.
func TestDeletedDestination(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			to, other := r.webhook(nil), r.webhook(nil)
			to.Respond(refusing())
			r.deliver.Retry = slices.Repeat(deliver.RetrySchedule{20 * time.Millisecond}, 1000)
			r.start()
			credential := r.credential("token")
			r.watch(credential, operations("op", 5), to.id, r.channel("C1"))
			r.await(to, 10)
			if err := r.store.ForceDeleteDestination(t.Context(), r.tenant, to.id); err != nil {
				t.Fatal(err)
			}
			r.settled(5, to.id, storage.DeliveryCanceled)
			r.watch(credential, operations("later", 5), other.id)
			r.await(other, 5)
			if got := r.lines.holding("work failed"); len(got) != 0 {
				t.Errorf("logged %q", got)
			}
		})
	}
}

// The attempt is known that was under way when its destination was deleted, even if
// its answer would disable that.
func TestDeletedDuringAnAttempt(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			to := r.webhook(nil)
			to.Respond(func(webhooktest.Arrival) webhooktest.Answer {
				if err := r.store.ForceDeleteDestination(t.Context(), r.tenant, to.id); err != nil {
					t.Error(err)
				}
				return webhooktest.Answer{Status: http.StatusGone}
			})
			r.start()
			r.watch(r.credential("token"), []string{"op"}, to.id)
			eventually(t, func() bool {
				all := r.deliveries(to.id)
				return len(all) == 1 && all[0].AttemptsMade == 1
			}, nil, "the attempt")
			r.settled(1, to.id, storage.DeliveryCanceled)
		})
	}
}

// A Slack channel gets one message per second, and none while it asks to wait,
// whichever of two workers is next.
func TestPaceOfSlack(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			const rest = 2 * time.Second
			r.slack.FailNext(1, slacktest.Failure{Status: http.StatusTooManyRequests, RetryAfter: "2"})
			to := r.create(storage.NewDestination{
				TenantID: r.tenant, Kind: storage.KindSlack, Name: "channel", MaxInFlight: 1,
				Secret: storage.DestinationSecret{SlackURL: seal.Secret(serve(t, r.slack) + slacktest.WebhookPath)},
			})
			r.start()
			r.start()
			credential := r.credential("token")
			r.watch(credential, []string{"first"}, to)
			eventually(t, func() bool { return r.slack.Requests() > 0 }, nil, "the first message")
			limited := time.Now()
			r.watch(credential, operations("op", 3), to)
			r.settled(4, to, storage.DeliverySucceeded)
			messages := r.slack.Messages()
			if early := messages[0].At.Sub(limited); early < rest-rest/10 {
				t.Errorf("sent %v after Slack asked for %v", early, rest)
			}
			// Without a pace it would take none; the first may have been under way for a while.
			if took := messages[3].At.Sub(messages[0].At); took < 2*time.Second || r.slack.Requests() != 5 {
				t.Errorf("4 messages in %v, with %d requests", took, r.slack.Requests())
			}
		})
	}
}

// Why Slack refuses is kept at the destination, logged, and told to others: also where it
// refuses the first message of a watch that has only begun, so that there is no attempt.
func TestWhyADestinationIsDisabled(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			alerts := r.webhook(func(n *storage.NewDestination) { n.Alerts = true })
			bot, gone := r.channel("C1"), r.webhook(nil)
			gone.Respond(webhooktest.Always(webhooktest.Answer{Status: http.StatusGone}))
			r.slack.FailNext(1, slacktest.Failure{Error: "not_in_channel"})
			r.add("goes on", simulator.Plan{RunningFor: time.Hour})
			r.start()
			credential := r.credential("token")
			r.watch(credential, []string{"goes on"}, bot)
			r.watch(credential, []string{"op"}, gone.id)
			why := map[string]string{bot: "Slack answered not_in_channel", gone.id: "the receiver answered 410 Gone"}
			for _, a := range r.await(alerts, len(why)) {
				var body struct {
					Data struct {
						ID        string `json:"destination_id"`
						LastError string `json:"last_error"`
					} `json:"data"`
				}
				if err := json.Unmarshal(a.Body, &body); err != nil || body.Data.LastError != why[body.Data.ID] {
					t.Errorf("told %s", a.Body)
				}
			}
			r.lines.await(t, len(why), "a destination is disabled")
			for id, want := range why {
				if got := r.destination(id).LastError; got != want {
					t.Errorf("kept %q, want %q", got, want)
				}
				lines := r.lines.holding("a destination is disabled")
				said := slices.ContainsFunc(lines, func(line string) bool {
					return strings.Contains(line, id) && strings.Contains(line, want) && strings.Contains(line, "WARN")
				})
				if !said || len(lines) != len(why) {
					t.Errorf("logged %q, want %q", lines, want)
				}
			}
		})
	}
}

// The permanent errors of Slack disable the destination.
func TestSlackRejects(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			to := r.channel("C1")
			r.slack.FailNext(1, slacktest.Failure{Error: "is_archived"})
			r.watch(r.credential("token"), []string{"op"}, to)
			r.start()
			r.settled(1, to, storage.DeliveryHeld)
			if d := r.destination(to); d.DisabledReason != storage.DisabledRejected || r.slack.Requests() != 1 {
				t.Errorf("%d requests; %+v", r.slack.Requests(), d)
			}
		})
	}
}
