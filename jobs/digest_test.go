package jobs

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/slacktest"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// incoming makes a destination that posts to an incoming webhook of Slack.
func (r *relay) incoming() string {
	r.t.Helper()
	return r.create(storage.NewDestination{
		TenantID: r.tenant, Kind: storage.KindSlack, Name: "incoming", MaxInFlight: 1,
		Secret: storage.DestinationSecret{SlackURL: seal.Secret(serve(r.t, r.slack) + slacktest.WebhookPath)},
	})
}

// slackKinds runs a test for both kinds of Slack destination on each backend.
func slackKinds(t *testing.T, test func(t *testing.T, r *relay, destination string)) {
	t.Helper()
	for _, b := range backends() {
		b.moveMost = 1000
		for kind, of := range map[string]func(r *relay) string{
			"incoming webhook": (*relay).incoming, "bot": func(r *relay) string { return r.channel("C1") },
		} {
			t.Run(b.name+", "+kind, func(t *testing.T) {
				t.Parallel()
				r := newRelay(t, b)
				r.deliver.GatherFor = 2 * time.Second
				test(t, r, of(r))
			})
		}
	}
}

// digests are the messages that tell of many ends.
func digests(messages []slacktest.Message) (found []slacktest.Message) {
	for _, m := range messages {
		if strings.Contains(string(m.Blocks), "many waited for this channel") && !strings.Contains(m.Text, "Watching") {
			found = append(found, m)
		}
	}
	return found
}

// toldOf is of how many ends the messages tell.
func toldOf(t *testing.T, messages []slacktest.Message) (n int) {
	t.Helper()
	for _, m := range messages {
		many := regexp.MustCompile(`(\d+) operations? (failed|completed|ended)`).FindStringSubmatch(m.Text)
		switch {
		case many != nil:
			ends, err := strconv.Atoi(many[1])
			if err != nil {
				t.Fatal(err)
			}
			n += ends
		case strings.Contains(m.Text, "Operation completed"), strings.Contains(m.Text, "Operation failed"):
			n++
		}
	}
	return n
}

// A burst becomes a handful of messages, whichever of two workers sends them, and no delivery
// is left out.
func TestBurstBecomesDigests(t *testing.T) {
	t.Parallel()
	slackKinds(t, func(t *testing.T, r *relay, to string) {
		t.Helper()
		const n = 500
		for i := range 3 {
			r.add(fmt.Sprintf("op%04d", n-1-i), simulator.Plan{End: simulator.EndFailed, Error: "no luck"})
		}
		r.start()
		r.start()
		r.watch(r.credential("token"), operations("op", n), to)
		for _, d := range r.settled(n, to, storage.DeliverySucceeded) {
			if attempts := r.attempts(d.ID); len(attempts) != 1 || attempts[0].StatusCode != http.StatusOK || len(attempts[0].ResponseBody) == 0 {
				t.Fatalf("%d attempts", len(attempts))
			}
		}
		messages := r.slack.Messages()
		told := digests(messages)
		// One a second while the ends come, which takes a busy machine its time; a flood is 500.
		if len(messages) > 30 || len(told) == 0 {
			t.Errorf("%d messages, of which %d are digests", len(messages), len(told))
		}
		if all := toldOf(t, messages); all != n {
			t.Errorf("%d ends are told of", all)
		}
		// The first may have been under way for a while.
		if took, least := messages[len(messages)-1].At.Sub(messages[0].At), time.Duration(len(messages)-2)*time.Second; took < least {
			t.Errorf("%d messages in %v", len(messages), took)
		}
	})
}

// All that is held comes at once when a destination is enabled. What Slack refuses for the moment
// is gathered anew, at no cost to the schedule; an error costs each of the deliveries a step. The
// failures are named first.
func TestRefusedDigestIsGatheredAnew(t *testing.T) {
	t.Parallel()
	slackKinds(t, func(t *testing.T, r *relay, to string) {
		t.Helper()
		ctx := t.Context()
		const n = 60
		for i := range 3 {
			r.add(fmt.Sprintf("op%04d", n-1-i), simulator.Plan{End: simulator.EndFailed, Error: "no <luck>"})
		}
		if _, err := r.store.DisableDestination(ctx, r.tenant, to, storage.DisabledByUser); err != nil {
			t.Fatal(err)
		}
		r.start()
		for _, w := range r.watch(r.credential("token"), operations("op", n), to) {
			r.ended(w)
		}
		r.settled(n, to, storage.DeliveryHeld)
		r.slack.FailNext(1, slacktest.Failure{Status: http.StatusTooManyRequests, RetryAfter: "1"})
		r.slack.FailNext(1, slacktest.Failure{Status: http.StatusBadGateway, Body: "oops"})
		if _, err := r.store.EnableDestination(ctx, r.tenant, to); err != nil {
			t.Fatal(err)
		}
		for _, d := range r.settled(n, to, storage.DeliverySucceeded) {
			attempts := r.attempts(d.ID)
			if len(attempts) != 3 || attempts[0].StatusCode != http.StatusTooManyRequests ||
				attempts[1].StatusCode != http.StatusBadGateway || attempts[2].Number != 3 {
				t.Fatalf("%d attempts", len(attempts))
			}
		}
		if d := r.destination(to); d.ConsecutiveFailures != 0 || !d.FailingSince.IsZero() {
			t.Errorf("accepted, and still %+v", d)
		}
		messages := r.slack.Messages()
		if len(messages) != 1 || r.slack.Requests() != 3 {
			t.Fatalf("%d messages of %d requests", len(messages), r.slack.Requests())
		}
		m := messages[0]
		if want := fmt.Sprintf("3 of %d operations failed (3 failed, %d completed): op", n, n-3); !strings.Contains(m.Text, want) {
			t.Errorf("it tells %q, want %q", m.Text, want)
		}
		blocks := strings.NewReplacer(`\u0026`, "&", `\u003c`, "<", `\u003e`, ">").Replace(string(m.Blocks))
		if i := strings.Index(blocks, "✅ `op"); strings.Count(blocks[:max(i, 0)], "no &lt;luck&gt;") != 3 {
			t.Errorf("the failures are not first: %s", blocks)
		}
		list := "https://console.example/deliveries?created_after="
		if !strings.Contains(blocks, list) || !strings.Contains(blocks, "destination_id="+to+"|Open all 60 in the console") {
			t.Errorf("no link to the list: %s", blocks)
		}
	})
}

// A permanent error disables the destination, and holds all that the digest would have told.
func TestRejectedDigest(t *testing.T) {
	t.Parallel()
	slackKinds(t, func(t *testing.T, r *relay, to string) {
		t.Helper()
		ctx := t.Context()
		const n = 20
		if _, err := r.store.DisableDestination(ctx, r.tenant, to, storage.DisabledByUser); err != nil {
			t.Fatal(err)
		}
		r.start()
		for _, w := range r.watch(r.credential("token"), operations("op", n), to) {
			r.ended(w)
		}
		r.settled(n, to, storage.DeliveryHeld)
		r.slack.FailNext(1, slacktest.Failure{Status: http.StatusForbidden, Error: "invalid_token"})
		if _, err := r.store.EnableDestination(ctx, r.tenant, to); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return r.slack.Requests() > 0 }, nil, "the digest")
		if kind := r.destination(to); kind.Bot {
			r.settled(n, to, storage.DeliverySucceeded) // the Web API knows no such error: it passes
			return
		}
		for _, d := range r.settled(n, to, storage.DeliveryHeld) {
			if d.AttemptsMade != 1 {
				t.Errorf("%d attempts", d.AttemptsMade)
			}
		}
		if d := r.destination(to); d.DisabledReason != storage.DisabledRejected || d.ConsecutiveFailures != 1 || d.LastError != "Slack answered invalid_token" {
			t.Errorf("got %+v", d)
		}
	})
}

// A bot's messages that stand in the channel are updated, whatever is gathered beside them. What
// begins in a burst is told in one message, and gets none of its own before it ends.
func TestBotUpdatesBesideDigests(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			b.moveMost = 100 // what is held comes at once
			r := newRelay(t, b)
			r.deliver.GatherFor = time.Second
			to, credential := r.channel("C1"), r.credential("token")
			r.start()
			posted, gathered := operations("posted", 2), operations("gathered", 30)
			for _, id := range append(posted, gathered...) {
				r.add(id, simulator.Plan{RunningFor: time.Hour})
			}
			r.watch(credential, posted, to)
			eventually(t, func() bool { return len(r.slack.Messages()) == len(posted) }, nil, "a message for each")
			watches := r.watch(credential, gathered, to)
			eventually(t, func() bool { return len(r.slack.Messages()) > len(posted) }, nil, "the message of the burst")
			begin := r.slack.Messages()[len(posted)]
			if !strings.Contains(begin.Text, "Watching 30 operations") {
				t.Errorf("the burst is told as %q", begin.Text)
			}
			if _, err := r.store.CancelWatch(t.Context(), r.tenant, watches[0].ID); err != nil {
				t.Fatal(err)
			}
			// All end before the channel gets the first end: a slow machine would tell of many in a message each.
			if _, err := r.store.DisableDestination(t.Context(), r.tenant, to, storage.DisabledByUser); err != nil {
				t.Fatal(err)
			}
			for _, id := range append(posted, gathered...) {
				r.add(id, simulator.Plan{})
			}
			r.settled(len(posted)+len(gathered)-1, to, storage.DeliveryHeld)
			if _, err := r.store.EnableDestination(t.Context(), r.tenant, to); err != nil {
				t.Fatal(err)
			}
			r.settled(len(posted)+len(gathered)-1, to, storage.DeliverySucceeded)
			messages := r.slack.Messages()
			for i, m := range messages[:len(posted)] {
				if !strings.Contains(m.Text, "completed") || len(m.History) == 0 {
					t.Errorf("message %d tells %q after %d edits", i, m.Text, len(m.History))
				}
			}
			if ends := len(messages) - len(posted) - 1; ends != 1 || len(digests(messages)) == 0 || len(messages[len(posted)].History) > 0 {
				t.Errorf("%d messages tell of the ends, %d of them of many; the one of the beginning has %d edits",
					ends, len(digests(messages)), len(messages[len(posted)].History))
			}
		})
	}
}

// Up to ten messages come each by itself, the most urgent first.
func TestFewAreNotGathered(t *testing.T) {
	t.Parallel()
	slackKinds(t, func(t *testing.T, r *relay, to string) {
		t.Helper()
		ctx, yes := t.Context(), true
		const n = 5
		if _, err := r.store.UpdateDestination(ctx, r.tenant, to, storage.DestinationPatch{Alerts: &yes}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.DisableDestination(ctx, r.tenant, to, storage.DisabledByUser); err != nil {
			t.Fatal(err)
		}
		r.start()
		for _, w := range r.watch(r.credential("token"), operations("op", n), to) {
			r.ended(w)
		}
		other := r.webhook(func(n *storage.NewDestination) { n.Name = "broken" })
		if _, err := r.store.DisableDestination(ctx, r.tenant, other.id, storage.DisabledGone); err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.TestDestination(ctx, r.tenant, to); err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.EnableDestination(ctx, r.tenant, to); err != nil {
			t.Fatal(err)
		}
		r.settled(n+2, to, storage.DeliverySucceeded)
		messages := r.slack.Messages()
		if len(messages) != n+2 {
			t.Fatalf("%d messages", len(messages))
		}
		for i, want := range []string{"A destination was disabled: broken", "A test message", "Operation completed"} {
			if !strings.Contains(messages[i].Text, want) {
				t.Errorf("message %d tells %q, want %q", i, messages[i].Text, want)
			}
		}
		if alert := string(messages[0].Blocks); !strings.Contains(alert, "it is gone for good") || !strings.Contains(alert, "`gone`") {
			t.Errorf("the alert does not say why: %s", alert)
		}
	})
}
