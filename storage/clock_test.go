package storage_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"oprelay/storage"
	"oprelay/storage/seal"
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
	check(t, w.Heartbeat(t.Context()))
	check(t, other.JoinClock(t.Context()))
	before := w.clock.Now()
	polled, watch, refused := waiting(w, step)
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
	want(t, "rejected within its grace", len(must(w.RecordRefusals(t.Context(), []storage.PollResult{refused}, time.Minute))(t)), 0)
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
	refused.At, refused.Next = w.Steady(), w.Steady().Add(time.Minute)
	want(t, "rejected after its grace", len(must(w.RecordRefusals(t.Context(), []storage.PollResult{refused}, time.Minute))(t)), 1)
	must(w.CancelWatch(t.Context(), w.tenant, watch.ID))(t)
	w.clock.advance(time.Hour) // the holder has died
	want(t, "lease of the dead", must(other.LeaseGroup(t.Context(), w.pollGroup(), "other", time.Minute))(t), true)
	must(other.ReleaseGroup(t.Context(), w.pollGroup(), "other", storage.Pause{}))(t)
}

// waiting leaves a delivery, a poll and the grace of the credential, each with a
// minute to go. It returns the delivery's id, the poll's watch and its result.
func waiting(w *world, step time.Duration) (string, storage.Watch, storage.PollResult) {
	t := w.t
	name := step.String() + w.clock.Now().String()
	delivery := w.complete(t, "delivered"+name)
	for _, due := range w.deliveries(t, w.destination) {
		w.record(t, steadily(w, w.attempt(due, storage.DeliveryPending, time.Minute)))
	}
	w.lease(t, deliverGroup(w.destination))
	w.release(t, deliverGroup(w.destination)) // notes when it is due next
	watch := w.watch(t, "polled"+name)
	refused := storage.PollResult{
		RowID: w.take(t)[0].RowID, At: w.Steady(), Next: w.Steady().Add(time.Minute),
		RefusedSince: w.Steady(), RefusedReason: storage.ReasonCredentialRejected, CredentialRefused: true,
	}
	check(t, w.RecordPolls(t.Context(), []storage.PollResult{refused}))
	return delivery.ID, watch, refused
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
	taken, err := w.TakePolls(t.Context(), storage.TakePolls{
		Group: w.credential.BudgetID, Owner: "me", Budget: storage.Budget{N: 10, Per: time.Minute}, Max: 10, Intervals: intervals(),
	})
	check(t, err)
	return taken.Polls
}

// testClockJoined: the steady time that a process adopts when it starts, depending on what
// else is running and how the wall clock was set meanwhile.
func testClockJoined(w *world) {
	t := w.t
	keys := must(seal.ParseKeyring(w.key))(t)
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
	check(t, w.Heartbeat(t.Context()))
	stopped := w.Steady()
	w.clock.advance(8 * time.Hour)
	join("after a night, which its clock shows", stopped.Add(8*time.Hour))
	w.clock.set(-time.Hour)
	join("with a clock that was set back while nobody lived", stopped.Add(8*time.Hour))
	check(t, w.Heartbeat(t.Context()))
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

// testGraceBegunAnew: a credential that was refused before the relay was down for days is
// not rejected by the first refusal after that, but by those of a whole grace. What has
// failed for so long has.
func testGraceBegunAnew(w *world) {
	t := w.t
	check(t, w.JoinClock(t.Context()))
	_, _, refused := waiting(w, 0)
	refuse := func(after time.Duration) (rejected int) {
		t.Helper()
		w.clock.advance(after)
		refused.At, refused.GraceGap = w.Steady(), 10*time.Minute
		return len(must(w.RecordRefusals(t.Context(), []storage.PollResult{refused}, 15*time.Minute))(t))
	}
	since := func() time.Duration {
		t.Helper()
		return w.Steady().Sub(must(w.Credential(t.Context(), w.tenant, w.credential.ID))(t).RefusedSince)
	}
	want(t, "rejected within the grace", refuse(10*time.Minute), 0)
	want(t, "refused for", since(), 10*time.Minute)
	check(t, w.Heartbeat(t.Context()))
	w.restart(t, 200*time.Hour)
	want(t, "rejected after days without the relay", refuse(0), 0)
	want(t, "refused anew for", since(), 0)
	want(t, "failing for", w.Steady().Sub(w.health(t).FailingSince), 200*time.Hour+10*time.Minute)
	want(t, "rejected within the new grace", refuse(10*time.Minute), 0)
	want(t, "rejected after it", refuse(5*time.Minute), 1)
}

// testClockLastPollKept: a process that dies before the last poll that was asked for
// leaves as long for it to those that start later.
func testClockLastPollKept(w *world) {
	t := w.t
	check(t, w.JoinClock(t.Context()))
	w.watch(t, "late")
	w.clock.advance(time.Hour)
	want(t, "last polls", must(w.LastPolls(t.Context(), 10))(t), 1)
	check(t, w.Heartbeat(t.Context()))
	w.restart(t, time.Hour)
	want(t, "expired before its last poll", must(w.ExpireWatches(t.Context(), 10))(t), 0)
	w.expire(t, 1)
}

// restart is two processes that start at once after a time without any.
func (w *world) restart(t *testing.T, after time.Duration) {
	t.Helper()
	w.clock.advance(after)
	keys := must(seal.ParseKeyring(w.key))(t)
	together(t, 2, func(ctx context.Context, _ int) error {
		s, err := storage.Open(ctx, w.config(keys))
		if err != nil {
			return err
		}
		return errors.Join(s.JoinClock(ctx), s.Close())
	})
}

// keep is a process that lives: time goes on for it.
func keep(ctx context.Context, w *world) error {
	for ctx.Err() == nil {
		w.clock.advance(time.Microsecond)
		if err := w.Heartbeat(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}
