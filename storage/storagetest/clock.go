package storagetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"oprelay/storage"
)

// testClockSteps: the wall clock is set by an hour, forward or back, for all
// processes. Nothing becomes due, free or late by it, and what people read goes by
// the clock as it is set.
func testClockSteps(w *world) {
	t := w.t
	for _, step := range []time.Duration{time.Hour, -time.Hour, -time.Hour, time.Hour} {
		stepped(w, step)
	}
	want(t, "the clock is right again", w.Steady(), w.clock.Now())
}

func stepped(w *world, step time.Duration) {
	t, other := w.t, w.open(w.t)
	check(t, w.KeepClockOnce(t.Context()))
	check(t, other.JoinClock(t.Context()))
	before := w.clock.Now()
	polled, watch := waiting(w, step)
	key := storage.IdempotencyKey{TenantID: w.tenant, Key: before.String(), Fingerprint: []byte("one")}
	must(w.ReserveAnswer(t.Context(), key))(t)
	want(t, "lease", must(w.LeaseGroup(t.Context(), w.pollGroup(), "me", time.Minute))(t), true)
	check(t, w.ParkBudget(t.Context(), w.credential.BudgetID, w.Steady().Add(time.Minute)))
	steady := w.Steady()

	w.clock.set(step)
	want(t, "the steady time", w.Steady(), steady)
	want(t, "lease of a group that is worked through", must(other.LeaseGroup(t.Context(), w.pollGroup(), "other", time.Minute))(t), false)
	want(t, "holder's polls within a parked budget", len(grant(t, w)), 0)
	want(t, "due early", len(must(other.DueGroups(t.Context(), 10))(t)), 0)
	_, err := other.ReserveAnswer(t.Context(), key)
	wantError(t, "take a reservation over", err, storage.ErrIdempotencyRunning)
	want(t, "rejected within its grace", must(w.RejectCredential(t.Context(), w.credential.ID, w.Steady().Add(-time.Minute)))(t), false)
	shown := w.reload(t, watch)
	want(t, "last polled, as the clock is set", shown.LastPolledAt, before.Add(step))
	want(t, "next poll, as the clock is set", shown.NextPollAt, before.Add(time.Minute+step))
	want(t, "a promise", shown.ExpiresAt, watch.ExpiresAt)
	want(t, "next attempt, as the clock is set", w.delivery(t, polled).NextAttemptAt, before.Add(time.Minute+step))

	w.clock.advance(time.Minute)
	want(t, "polls when it is time", len(grant(t, w)), 1)
	due := w.deliveries(t, w.destination)
	want(t, "deliveries when it is time", len(due), 1)
	for _, due := range due {
		w.record(t, w.attempt(due, storage.DeliverySucceeded, 0))
	}
	want(t, "rejected after its grace", must(w.RejectCredential(t.Context(), w.credential.ID, w.Steady().Add(-time.Minute)))(t), true)
	must(w.CancelWatch(t.Context(), w.tenant, watch.ID))(t)
	w.clock.advance(time.Hour) // the holder has died
	want(t, "lease of the dead", must(other.LeaseGroup(t.Context(), w.pollGroup(), "other", time.Minute))(t), true)
	must(other.ReleaseGroup(t.Context(), w.pollGroup(), "other", time.Time{}))(t)
}

// waiting leaves a delivery, a poll and the grace of the credential, each with a
// minute to go. It returns the delivery's id and the poll's watch.
func waiting(w *world, step time.Duration) (string, storage.Watch) {
	t := w.t
	name := step.String() + w.clock.Now().String()
	delivery := w.complete(t, "delivered"+name)
	for _, due := range w.deliveries(t, w.destination) {
		w.record(t, steadily(w, w.attempt(due, storage.DeliveryPending, time.Minute)))
	}
	w.lease(t, deliverGroup(w.destination))
	w.release(t, deliverGroup(w.destination)) // notes when it is due next
	watch := w.watch(t, "polled"+name)
	check(t, w.RecordPolls(t.Context(), []storage.PollResult{{
		RowID: w.take(t)[0].RowID, At: w.Steady(), Next: w.Steady().Add(time.Minute),
		RefusedSince: w.Steady(), RefusedReason: storage.ReasonCredentialRejected, CredentialRefused: true,
	}}))
	return delivery.ID, watch
}

// steadily is the result with steady times.
func steadily(w *world, r storage.AttemptResult) storage.AttemptResult {
	shift := w.Steady().Sub(w.clock.Now())
	r.Attempt.StartedAt = r.Attempt.StartedAt.Add(shift)
	r.NextAttemptAt = r.NextAttemptAt.Add(shift)
	return r
}

// grant is the polls that the holder of the lease gets.
func grant(t *testing.T, w *world) []storage.DuePoll {
	t.Helper()
	want(t, "renewed", must(w.RenewLease(t.Context(), w.pollGroup(), "me", time.Minute))(t), true)
	polls, _, err := w.TakePolls(t.Context(), storage.TakePolls{
		Group: w.credential.BudgetID, Owner: "me", Budget: storage.Budget{N: 10, Per: time.Minute}, Max: 10, MinInterval: time.Second,
	})
	check(t, err)
	return polls
}

// testClockJoined: what steady time a process has that starts, by who else lives
// and how the wall clock was set meanwhile.
func testClockJoined(w *world) {
	t := w.t
	keys := must(storage.ParseKeyring(w.key))(t)
	join := func(what string, want time.Time) {
		t.Helper()
		together(t, 2, func(ctx context.Context, _ int) error {
			s, err := storage.Open(ctx, w.config(keys))
			if err != nil {
				return err
			}
			defer func() { _ = s.Close() }()
			if err := s.JoinClock(ctx); err != nil {
				return err
			}
			if got := s.Steady(); !got.Equal(want) {
				return fmt.Errorf("%s: the steady time is %v, want %v", what, got, want)
			}
			return nil
		})
	}
	check(t, w.JoinClock(t.Context()))
	w.clock.set(-time.Hour)
	join("with a clock that is behind", w.Steady())
	check(t, w.KeepClockOnce(t.Context()))
	stopped := w.Steady()
	w.clock.advance(8 * time.Hour)
	join("after a night, which its clock shows", stopped.Add(8*time.Hour))
	w.clock.set(-time.Hour)
	join("with a clock that was set back while nobody lived", stopped.Add(8*time.Hour))
	check(t, w.KeepClockOnce(t.Context()))
	if w.Backend() == "sqlite" { // a SQLite file is for one process
		return
	}
	w.clock.set(2 * time.Hour)
	live, die := context.WithCancel(t.Context())
	kept := make(chan error, 1)
	go func() { kept <- keep(live, w) }()
	joined := w.open(t)
	check(t, joined.JoinClock(t.Context()))
	die()
	check(t, <-kept)
	if ahead := joined.Steady().Sub(w.Steady()).Abs(); ahead > time.Second {
		t.Errorf("with a clock that is ahead of those that live, by %v", ahead)
	}
}

// testClockLeavesGapOut: the time in which no process ran counts for no grace,
// however many processes start after it.
func testClockLeavesGapOut(w *world) {
	t := w.t
	sound := w.newCredential(t, w.tenant, "sound")
	accepting := w.newWebhook(t, w.tenant, false)
	check(t, w.JoinClock(t.Context()))
	waiting(w, 0)
	w.clock.advance(5 * time.Minute)
	check(t, w.KeepClockOnce(t.Context()))
	w.restart(t, 200*time.Hour)
	want(t, "the grace", w.graces(t), [3]time.Duration{5 * time.Minute, 5 * time.Minute, 5 * time.Minute})
	want(t, "refused, of another", must(w.Credential(t.Context(), w.tenant, sound.ID))(t).RefusedSince, time.Time{})
	want(t, "failing, of another", must(w.Destination(t.Context(), w.tenant, accepting.ID))(t).FailingSince, time.Time{})

	w.restart(t, time.Second) // too short to be told from life
	want(t, "the grace, running", w.graces(t), [3]time.Duration{301 * time.Second, 301 * time.Second, 301 * time.Second})
}

// testClockGraceBegunLate: a grace that began after the last word of a process that
// then died begins anew, and not in the future.
func testClockGraceBegunLate(w *world) {
	t := w.t
	check(t, w.JoinClock(t.Context()))
	w.clock.advance(time.Second)
	waiting(w, 0)
	w.restart(t, time.Hour)
	want(t, "the grace", w.graces(t), [3]time.Duration{})
}

// testClockLastPollKept: a process that dies before the last poll that was asked for
// leaves as long for it to those that start later.
func testClockLastPollKept(w *world) {
	t := w.t
	check(t, w.JoinClock(t.Context()))
	w.watch(t, "late")
	w.clock.advance(time.Hour)
	want(t, "last polls", must(w.LastPolls(t.Context(), 10))(t), 1)
	check(t, w.KeepClockOnce(t.Context()))
	w.restart(t, time.Hour)
	want(t, "expired before its last poll", must(w.ExpireWatches(t.Context(), 10))(t), 0)
	w.clock.advance(time.Hour)
	want(t, "expired without a poll", must(w.ExpireWatches(t.Context(), 10))(t), 1)
}

// restart is two processes that start at once after a time without any.
func (w *world) restart(t *testing.T, after time.Duration) {
	t.Helper()
	w.clock.advance(after)
	keys := must(storage.ParseKeyring(w.key))(t)
	together(t, 2, func(ctx context.Context, _ int) error {
		s, err := storage.Open(ctx, w.config(keys))
		if err != nil {
			return err
		}
		return errors.Join(s.JoinClock(ctx), s.Close())
	})
}

// graces is for how long the credential and the operation were refused, and the
// destination has failed, as what waiting left counts it.
func (w *world) graces(t *testing.T) [3]time.Duration {
	t.Helper()
	now := w.Steady()
	polls := w.take(t)
	want(t, "polls", len(polls), 1)
	credential := must(w.Credential(t.Context(), w.tenant, w.credential.ID))(t)
	return [3]time.Duration{
		now.Sub(credential.RefusedSince), now.Sub(polls[0].RefusedSince), now.Sub(w.health(t).FailingSince),
	}
}

// keep is a process that lives: time goes on for it.
func keep(ctx context.Context, w *world) error {
	for ctx.Err() == nil {
		w.clock.advance(time.Microsecond)
		if err := w.KeepClockOnce(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}
