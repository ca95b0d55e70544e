package storage_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"oprelay/storage"
	"oprelay/storage/seal"
)

func testUpdateDestination(w *world) {
	t := w.t
	name, url, limit, headers := "new", "https://example.org/", 7, map[string]string{"B": "2", "A": "1"}
	d := must(w.UpdateDestination(t.Context(), w.tenant, w.destination.ID, storage.DestinationPatch{
		Name: &name, URL: &url, RateLimit: &limit, Headers: &headers,
	}))(t)
	got, secret, err := w.OpenDestination(t.Context(), w.destination.ID)
	check(t, err)
	want(t, "stored", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", d))
	want(t, "name, url, limit", got.Name+got.URL+strconv.Itoa(got.RateLimit), name+url+"7")
	want(t, "header names", fmt.Sprint(got.HeaderNames), "[A B]")
	want(t, "headers", fmt.Sprint(secret.Headers), fmt.Sprint(headers))
	want(t, "what the patch does not name", got.MaxInFlight, w.destination.MaxInFlight)
	want(t, "signing secret", secret.Signing[0].Value, "whsec_one")

	bot := w.newBot(t)
	want(t, "bot", bot.Bot, true)
	token, channel := seal.Secret("xoxb-2"), "C2"
	must(w.UpdateDestination(t.Context(), w.tenant, bot.ID, storage.DestinationPatch{BotToken: &token, Channel: &channel}))(t)
	got, secret, err = w.OpenDestination(t.Context(), bot.ID)
	check(t, err)
	want(t, "channel", got.Channel, "C2")
	want(t, "token", string(secret.BotToken), "xoxb-2")
}

func testRotateSecret(w *world) {
	t := w.t
	id := w.destination.ID
	signing := func() string {
		t.Helper()
		_, secret, err := w.OpenDestination(t.Context(), id)
		check(t, err)
		var values []string
		for _, s := range secret.Signing {
			values = append(values, string(s.Value))
		}
		return strings.Join(values, " ")
	}
	check(t, w.RotateSecret(t.Context(), w.tenant, id, "whsec_two", time.Hour))
	want(t, "while they overlap", signing(), "whsec_two whsec_one")
	w.clock.advance(30 * time.Minute)
	check(t, w.RotateSecret(t.Context(), w.tenant, id, "whsec_three", time.Hour))
	want(t, "while three overlap", signing(), "whsec_three whsec_two whsec_one")
	w.clock.advance(30 * time.Minute)
	want(t, "when the first is over", signing(), "whsec_three whsec_two")
	check(t, w.RotateSecret(t.Context(), w.tenant, id, "whsec_four", time.Minute))
	want(t, "with a shorter overlap", signing(), "whsec_four whsec_three whsec_two")
	w.clock.advance(time.Minute)
	want(t, "when that is over", signing(), "whsec_four")
	check(t, w.RotateSecret(t.Context(), w.tenant, id, "whsec_five", time.Hour))
	check(t, w.RotateSecret(t.Context(), w.tenant, id, "whsec_six", 0))
	want(t, "without an overlap", signing(), "whsec_six")
}

// wantInUse checks that a deletion was refused, and for how many watches.
func wantInUse(t *testing.T, what string, err error, open int) {
	t.Helper()
	var inUse *storage.InUseError
	if !errors.As(err, &inUse) || inUse.Open != open || !errors.Is(err, storage.ErrInUse) {
		t.Errorf("%s: %v, want %d open watches", what, err, open)
	}
}

// testDestinationInUse: open watches keep their destination, and nothing else does. What
// then still waits for it is canceled.
func testDestinationInUse(w *world) {
	t := w.t
	ctx, bot := t.Context(), w.newBot(t)
	delivery := w.complete(t, "ended")
	w.record(t, w.attempt(w.deliveries(t, w.destination)[0], storage.DeliveryPending, time.Hour))
	open := []storage.Watch{w.watch(t, "1"), w.watch(t, "2"), w.botWatch(t, bot, "3")}
	wantInUse(t, "two name it", w.DeleteDestination(ctx, w.tenant, w.destination.ID), 2)
	wantInUse(t, "three use the credential", w.DeleteCredential(ctx, w.tenant, w.credential.ID), 3)
	must(w.CancelWatch(ctx, w.tenant, open[0].ID))(t)
	wantInUse(t, "one names it", w.DeleteDestination(ctx, w.tenant, w.destination.ID), 1)
	want(t, "kept", w.health(t).ID, w.destination.ID)
	want(t, "not canceled", w.delivery(t, delivery.ID).Status, storage.DeliveryPending)
	must(w.CancelWatch(ctx, w.tenant, open[1].ID))(t)
	check(t, w.DeleteDestination(ctx, w.tenant, w.destination.ID))
	wantError(t, "deleted again", w.DeleteDestination(ctx, w.tenant, w.destination.ID), storage.ErrNotFound)
	want(t, "canceled", w.delivery(t, delivery.ID).Status, storage.DeliveryCanceled)

	wantInUse(t, "the bot", w.DeleteDestination(ctx, w.tenant, bot.ID), 1)
	check(t, w.ForceDeleteDestination(ctx, w.tenant, bot.ID))
	want(t, "listed", fmt.Sprint(w.reload(t, open[2]).DestinationIDs), "[]")
	want(t, "messages behind", w.behind(t, bot), 0)
	running := storage.PollResult{RowID: w.take(t)[0].RowID, At: start, Next: start, Status: storage.OperationRunning}
	check(t, w.RecordPolls(ctx, []storage.PollResult{running}))
	want(t, "messages behind when the operation has moved on", w.behind(t, bot), 0)
	want(t, "next work at the bot", w.groupDue(t, deliverGroup(bot)), time.Time{})
}

// behind counts the messages at a bot that are to be brought up to date.
func (w *world) behind(t *testing.T, bot storage.Destination) (n int) {
	t.Helper()
	check(t, w.raw(t).QueryRowContext(t.Context(), `SELECT COUNT(*) FROM slack_messages
		WHERE destination_id = $1 AND due_at IS NOT NULL`, inSQL(bot.ID)).Scan(&n))
	return n
}

// testDestinationInUseRace: a destination is deleted while watches on it are registered.
// Either there is a watch that keeps it, or a registration that is told that it is gone.
func testDestinationInUseRace(w *world) {
	t := w.t
	other := w.open(t)
	for round := range 40 {
		d := w.newWebhook(t, w.tenant, false)
		var deleted, registered error
		together(t, 2, func(ctx context.Context, i int) error {
			if i == 0 {
				deleted = other.DeleteDestination(ctx, w.tenant, d.ID)
				return nil
			}
			request := w.request(strconv.Itoa(round))
			request.DestinationIDs = []string{d.ID}
			_, registered = w.Register(ctx, []storage.NewWatch{request}, nil)
			return nil
		})
		switch {
		case deleted == nil && errors.Is(registered, storage.ErrNotFound):
		case errors.Is(deleted, storage.ErrInUse) && registered == nil:
		default:
			t.Fatalf("deleted: %v; registered: %v", deleted, registered)
		}
	}
}

// testOpenedAtOneMoment: who opens a destination while it is changed gets the
// secrets that go with the URL, lest one receiver be sent another's.
func testOpenedAtOneMoment(w *world) {
	t := w.t
	id := w.destination.ID
	change := func(ctx context.Context, n int) error {
		url, headers := fmt.Sprint("https://example.com/", n), map[string]string{"N": strconv.Itoa(n)}
		_, err := w.UpdateDestination(ctx, w.tenant, id, storage.DestinationPatch{URL: &url, Headers: &headers})
		return err
	}
	check(t, change(t.Context(), 0))
	var changed atomic.Bool
	together(t, 2, func(ctx context.Context, i int) error {
		if i == 0 {
			defer changed.Store(true)
			for n := range 100 {
				if err := change(ctx, n); err != nil {
					return err
				}
			}
			return nil
		}
		for !changed.Load() {
			d, secret, err := w.OpenDestination(ctx, id)
			if err != nil {
				return err
			}
			if d.URL != "https://example.com/"+secret.Headers["N"] {
				return fmt.Errorf("%s with the headers %v", d.URL, secret.Headers)
			}
		}
		return nil
	})
}

// testRegisteredBesideChange: neither is a registration kept waiting by who is changing
// its destination or records attempts there, nor the other way round; nor is anything left
// over if that deletes it.
func testRegisteredBesideChange(w *world) {
	t := w.t
	if w.Backend() == "sqlite" {
		return // has one writer at a time
	}
	other, bot := w.open(t), w.newBot(t)
	w.complete(t, "0")
	w.complete(t, "00")
	due := w.deliveries(t, w.destination)
	check(t, other.Atomically(t.Context(), func(tx *storage.Store) error {
		w.watch(t, "beside nothing")
		check(t, tx.RecordAttempts(t.Context(), []storage.AttemptResult{w.attempt(due[0], storage.DeliveryPending, time.Hour)}))
		w.watch(t, "beside an attempt")
		return nil
	}))
	check(t, other.Atomically(t.Context(), func(tx *storage.Store) error {
		if _, err := tx.CreateWatches(t.Context(), []storage.NewWatch{w.request("2")}); err != nil {
			return err
		}
		return w.RecordAttempts(t.Context(), []storage.AttemptResult{w.attempt(due[1], storage.DeliverySucceeded, 0)})
	}))
	for _, poll := range w.take(t) {
		w.end(t, poll, storage.WatchUnobservable)
	}
	var watch storage.Watch
	check(t, other.Atomically(t.Context(), func(tx *storage.Store) error {
		for _, d := range []storage.Destination{w.destination, bot} {
			if err := tx.ForceDeleteDestination(t.Context(), w.tenant, d.ID); err != nil {
				return err
			}
		}
		request := w.request("1")
		request.DestinationIDs = append(request.DestinationIDs, bot.ID)
		made, err := w.CreateWatches(t.Context(), []storage.NewWatch{request})
		if err == nil {
			watch = made[0]
		}
		return err
	}))
	w.end(t, w.take(t)[0], storage.WatchCompleted)
	want(t, "status", w.reload(t, watch).Status, storage.WatchCompleted)
	list := must(w.Deliveries(t.Context(), storage.DeliveryFilter{TenantID: w.tenant}, storage.Page{Limit: 5}))(t)
	for _, d := range list.Data {
		want(t, "delivery of the watch", d.WatchID == watch.ID, false)
	}
	want(t, "sent to the bot", len(w.deliveries(t, bot)), 0)
	want(t, "next work at the bot", w.groupDue(t, deliverGroup(bot)), time.Time{})
}
