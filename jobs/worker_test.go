package jobs

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"oprelay/jobs/cloudflare/simulator"
	"oprelay/storage"
)

// The whole way: a watch is registered, its operation polled, its end seen, and
// the event arrives, signed, with the very bytes that the store keeps.
func TestWatchToWebhook(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.start()
			to := r.webhook(nil)
			r.add("op", simulator.Plan{PendingFor: 500 * time.Millisecond, RunningFor: 500 * time.Millisecond, End: simulator.EndFailed, Error: "full"})
			watch := r.ended(r.watch(r.credential("token"), []string{"op"}, to.id)[0])
			if watch.Status != storage.WatchFailed || watch.Operation.Error != "full" || watch.Polls < 1 {
				t.Errorf("got %+v", watch)
			}
			arrival := r.await(to, 1)[0]
			event, err := r.store.Event(t.Context(), r.tenant, watch.EventID)
			if err != nil || arrival.ID != event.ID || string(arrival.Body) != string(event.Body) {
				t.Errorf("%v: arrived %s %s, want %s %s", err, arrival.ID, arrival.Body, event.ID, event.Body)
			}
			var body struct{ Type string }
			if err := json.Unmarshal(arrival.Body, &body); err != nil || body.Type != storage.EventOperationFailed {
				t.Errorf("%v: %s", err, arrival.Body)
			}
			delivery := r.settled(1, to.id, storage.DeliverySucceeded)[0]
			if attempts := r.attempts(delivery.ID); len(attempts) != 1 || attempts[0].StatusCode != http.StatusNoContent || delivery.AttemptsMade != 1 {
				t.Errorf("%+v with attempts %+v", delivery, attempts)
			}
		})
	}
}

func TestWatchesShareTheirPolls(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			to := r.webhook(nil)
			r.add("shared", simulator.Plan{RunningFor: 300 * time.Millisecond})
			same := make([]string, 50)
			for i := range same {
				same[i] = "shared"
			}
			watches := r.watch(r.credential("token"), same, to.id)
			r.start()
			if got := events(r.await(to, 50)); len(got) != 50 {
				t.Errorf("%d events for 50 watches", len(got))
			}
			watch := r.ended(watches[0])
			if requests := len(r.upstream.Requests()); requests != watch.Polls || requests > 50 {
				t.Errorf("%d requests, %d polls", requests, watch.Polls)
			}
		})
	}
}

func TestWatchDeadline(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.start()
			to := r.webhook(nil)
			r.add("endless", simulator.Plan{End: simulator.EndNever})
			credential := r.credential("token")
			watch := r.ended(r.watchFor(500*time.Millisecond, credential, []string{"endless"}, to.id)[0])
			if watch.Status != storage.WatchExpired || watch.FinishedAt.Before(watch.ExpiresAt) {
				t.Errorf("got %+v", watch)
			}
			if got := reason(r.await(to, 1)[0].Body); got != storage.ReasonDeadline {
				t.Errorf("reason %q", got)
			}
			if again := r.watch(credential, []string{"endless"}, to.id)[0]; again.Polls != 0 {
				t.Errorf("a new watch shares an observation that should have ended: %+v", again)
			}
		})
	}
}

// An id can be younger than the upstream's replica that is asked.
func TestYoungOperation(t *testing.T) {
	t.Parallel()
	r := newRelay(t, sqliteBackend())
	r.poll.Policy.UnobservableAfter = time.Hour
	r.start()
	to := r.webhook(nil)
	r.add("young", simulator.Plan{Misbehaviour: simulator.Misbehaviour{Name: "not_found", Times: 2}})
	young := r.ended(r.watch(r.credential("token"), []string{"young"}, to.id)[0])
	if young.Status != storage.WatchCompleted || young.Polls < 3 {
		t.Errorf("unknown for a moment: %+v", young)
	}
}

func TestUnknownOperation(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.poll.Policy.UnobservableAfter = 2 * time.Second
			r.start()
			to := r.webhook(nil)
			r.add("unknown", simulator.Plan{Misbehaviour: simulator.Misbehaviour{Name: "not_found"}})
			unknown := r.ended(r.watch(r.credential("token"), []string{"unknown"}, to.id)[0])
			if unknown.Status != storage.WatchUnobservable || unknown.FinishedAt.Sub(unknown.CreatedAt) < 2*time.Second {
				t.Errorf("got %+v", unknown)
			}
			if body := r.await(to, 1)[0].Body; reason(body) != storage.ReasonNotFound {
				t.Errorf("got %s", body)
			}
		})
	}
}

// Whoever no poll has ever seen by its deadline was not observable, however long the
// grace period is, and only that credential's watches or that operation's are told so.
func TestDeadlineOfWhatWasNeverSeen(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.poll.Policy.UnobservableAfter = time.Hour
			r.start()
			missing := simulator.Fault{Credential: simulator.TokenFingerprint("missing"), Misbehaviour: simulator.Misbehaviour{Name: "refusal"}}
			if err := r.upstream.AddFault(missing); err != nil {
				t.Fatal(err)
			}
			r.add("unknown", simulator.Plan{Misbehaviour: simulator.Misbehaviour{Name: "not_found"}})
			r.add("blocked", simulator.Plan{Misbehaviour: simulator.Misbehaviour{Name: "blocked"}})
			good, bad := r.credential("token"), r.credential("missing")
			for _, test := range []struct{ credential, operation, status, reason string }{
				{bad, "op", storage.WatchUnobservable, storage.ReasonCredentialRejected},
				{good, "unknown", storage.WatchUnobservable, storage.ReasonNotFound},
				{good, "blocked", storage.WatchExpired, storage.ReasonDeadline},
			} {
				to := r.webhook(nil)
				watch := r.ended(r.watchFor(500*time.Millisecond, test.credential, []string{test.operation}, to.id)[0])
				if watch.Status != test.status || watch.FinishedAt.Before(watch.ExpiresAt) || watch.Polls == 0 {
					t.Errorf("%s: %+v", test.operation, watch)
				}
				if body := r.await(to, 1)[0].Body; reason(body) != test.reason {
					t.Errorf("%s: %s", test.operation, body)
				}
			}
		})
	}
}

// A credential that the upstream refuses ends its watches, the parked ones too,
// and is told to the destinations that take alerts. Another credential goes on.
func TestRejectedCredential(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.start()
			to := r.webhook(nil)
			alerts := r.webhook(func(n *storage.NewDestination) { n.Alerts = true })
			refuse := simulator.Fault{Credential: simulator.TokenFingerprint("bad"), Misbehaviour: simulator.Misbehaviour{Name: "unauthorized"}}
			if err := r.upstream.AddFault(refuse); err != nil {
				t.Fatal(err)
			}
			bad := r.credential("bad")
			refused := r.watch(bad, operations("op", 5), to.id)
			good := r.watch(r.credential("good"), operations("op", 5), to.id)
			for i := range refused {
				if w := r.ended(refused[i]); w.Status != storage.WatchUnobservable {
					t.Errorf("refused: %+v", w)
				}
				if w := r.ended(good[i]); w.Status != storage.WatchCompleted {
					t.Errorf("accepted: %+v", w)
				}
			}
			r.await(to, 10)
			var body struct {
				Type string
				Data struct {
					CredentialID string `json:"credential_id"`
				}
			}
			if err := json.Unmarshal(r.await(alerts, 1)[0].Body, &body); err != nil ||
				body.Type != storage.EventCredentialRejected || body.Data.CredentialID != bad {
				t.Errorf("%v: alert %+v", err, body)
			}
			credential, err := r.store.Credential(t.Context(), r.tenant, bad)
			if err != nil || credential.Status != storage.CredentialRejected {
				t.Errorf("%v: %+v", err, credential)
			}
			// It is mended upstream: a new watch with it works, and it is active again.
			// (One that is registered while the last of the old ones end, ends with them.)
			r.upstream.ClearFaults()
			eventually(t, func() bool {
				return r.ended(r.watch(bad, []string{"later"}, to.id)[0]).Status == storage.WatchCompleted
			}, nil, "a watch with a mended credential")
			if credential, err := r.store.Credential(t.Context(), r.tenant, bad); err != nil || credential.Status != storage.CredentialActive {
				t.Errorf("%v: %+v", err, credential)
			}
			if n := len(alerts.Arrivals()); n != 1 {
				t.Errorf("%d alerts", n)
			}
		})
	}
}

// A 429 rests everything that shares the credential's budget, and nothing else.
func TestRateLimitParksTheCredential(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.start()
			to := r.webhook(nil)
			limited := simulator.TokenFingerprint("limited")
			if err := r.upstream.AddFault(simulator.Fault{Credential: limited, Misbehaviour: simulator.Misbehaviour{Name: "rate_limited"}}); err != nil {
				t.Fatal(err)
			}
			first, twin := r.credential("limited"), r.credential("limited")
			parked := r.watch(first, []string{"op"}, to.id)[0]
			eventually(t, func() bool {
				w, err := r.store.Watch(t.Context(), r.tenant, parked.ID)
				return err == nil && time.Until(w.NextPollAt) > time.Minute
			}, nil, "the rest of a credential")
			// Later ones rest too, also by another credential with the same token.
			parkedToo := r.watch(first, operations("first", 20), to.id)
			parkedToo = append(parkedToo, r.watch(twin, operations("twin", 20), to.id)...)
			for _, w := range r.watch(r.credential("free"), operations("op", 20), to.id) {
				if w = r.ended(w); w.Status != storage.WatchCompleted {
					t.Errorf("another credential: %+v", w)
				}
			}
			if n := r.upstream.MaxInWindow(limited, time.Hour); n != 1 {
				t.Errorf("%d requests with a credential that was told to stop", n)
			}
			for _, w := range parkedToo {
				if w, err := r.store.Watch(t.Context(), r.tenant, w.ID); err != nil || w.Polls != 0 || time.Until(w.NextPollAt) < time.Minute {
					t.Errorf("%v: %+v", err, w)
				}
			}
		})
	}
}

// What the upstream says of its own count rests a credential for no longer than the
// budget's window, whatever it says.
func TestHintOutlivesNoWindow(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.poll.Budget = storage.Budget{N: 100, Per: time.Second}
			r.start()
			r.add("op", simulator.Plan{RunningFor: 2 * time.Second, Misbehaviour: simulator.Misbehaviour{Name: "ratelimit_exhausted"}})
			watch := r.ended(r.watch(r.credential("token"), []string{"op"}, r.webhook(nil).id)[0])
			if watch.Status != storage.WatchCompleted || watch.Polls > 4 {
				t.Errorf("got %+v", watch) // a poll at once, and one for each window
			}
		})
	}
}

// An answer that says that more is left ends what an earlier one said.
func TestContradictedHint(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.poll.Budget = storage.Budget{N: 1000, Per: time.Hour}
			for operation, m := range map[string]simulator.Misbehaviour{
				"first":  {Name: "ratelimit_exhausted", Times: 1},
				"second": {Name: "ratelimit_constant", Times: 1, Delay: time.Second},
			} {
				r.add(operation, simulator.Plan{RunningFor: time.Second, Misbehaviour: m})
			}
			credential, to := r.credential("token"), r.webhook(nil).id
			watches := r.watch(credential, []string{"first", "second"}, to)
			r.start()
			eventually(t, func() bool {
				w, err := r.store.Watch(t.Context(), r.tenant, watches[0].ID)
				return err == nil && w.Polls == 1
			}, nil, "the first answer")
			// While the second is under way somebody asks in vain for more.
			watches = append(watches, r.watch(credential, []string{"third"}, to)...)
			for _, watch := range watches {
				if watch = r.ended(watch); watch.Status != storage.WatchCompleted {
					t.Errorf("got %+v", watch)
				}
			}
		})
	}
}

func TestProgressInSlack(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.start()
			shows := func(status string) {
				t.Helper()
				eventually(t, func() bool {
					messages := r.slack.Messages()
					return len(messages) == 1 && strings.Contains(messages[0].Text, status)
				}, nil, "the message to show "+status)
			}
			r.add("op", simulator.Plan{PendingFor: time.Hour})
			watch := r.watch(r.credential("token"), []string{"op"}, r.channel("C1"))[0]
			shows("pending")
			r.add("op", simulator.Plan{RunningFor: time.Hour})
			shows("running")
			r.add("op", simulator.Plan{})
			if watch = r.ended(watch); watch.Status != storage.WatchCompleted {
				t.Fatalf("got %+v", watch)
			}
			shows("completed")
			delivery := r.settledOne(watch.ID)
			messages := r.slack.Messages()
			if len(messages) != 1 || len(messages[0].History) < 2 {
				t.Fatalf("%d messages, the first with %d edits; want one that was edited twice or more", len(messages), len(messages[0].History))
			}
			if delivery.AttemptsMade != 1 {
				t.Errorf("got %+v", delivery)
			}
		})
	}
}

// reason is why an event says that its watch expired or became unobservable.
func reason(body []byte) string {
	var event struct {
		Data struct {
			Reason string `json:"reason"`
		} `json:"data"`
	}
	_ = json.Unmarshal(body, &event)
	return event.Data.Reason
}
