package jobs

import (
	"log/slog"
	"testing"
	"time"

	"oprelay/storage"
)

// The grace period is between refusals, not between a refusal and its record.
func TestLateRecordRejectsNothing(t *testing.T) {
	t.Parallel()
	r := newRelay(t, sqliteBackend())
	credential := r.credential("token")
	r.watch(credential, []string{"op"}, r.webhook(nil).id)
	groups, err := r.store.DueGroups(t.Context(), 1)
	if err != nil || len(groups) != 1 {
		t.Fatalf("%v: %d groups are due", err, len(groups))
	}
	if ok, err := r.store.LeaseGroup(t.Context(), groups[0], "me", time.Minute); err != nil || !ok {
		t.Fatalf("%v: leased: %v", err, ok)
	}
	due, _, err := r.store.TakePolls(t.Context(), storage.TakePolls{
		Group: groups[0].ID, Owner: "me", Budget: storage.Budget{N: 1, Per: time.Hour}, Max: 1,
	})
	if err != nil || len(due) != 1 {
		t.Fatalf("%v: %d polls are due", err, len(due))
	}
	at := time.Now()
	p := &poller{
		store: r.store, log: slog.New(slog.DiscardHandler), policy: PollPolicy{UnobservableAfter: 15 * time.Minute}, metrics: newMetrics(nil),
		now: func() time.Time { return at.Add(time.Hour) },
	}
	refused := storage.PollResult{
		RowID: due[0].RowID, At: at, Next: at.Add(time.Second), Problem: "HTTP 401",
		RefusedSince: at, RefusedReason: storage.ReasonCredentialRejected, CredentialRefused: true,
	}
	if err := p.record(t.Context(), groups[0].ID, []*polled{{due: due[0], at: at, PollResult: refused}}); err != nil {
		t.Fatal(err)
	}
	got, err := r.store.Credential(t.Context(), r.tenant, credential)
	if err != nil || got.Status != storage.CredentialActive || got.RefusedSince.IsZero() {
		t.Errorf("%v: %+v after one refusal", err, got)
	}
}
