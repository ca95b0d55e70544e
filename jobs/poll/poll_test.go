package poll

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/jobs/pipeline"
	"oprelay/jobs/source"
	"oprelay/storage"
)

// Which quotas the budget goes by: those that are low, and those that end a low one.
func TestLearnsQuotas(t *testing.T) {
	t.Parallel()
	quota := func(remaining int) *source.Left {
		return &source.Left{Remaining: remaining, Reset: time.Minute}
	}
	r := &run{upstream: upstream{budget: storage.Budget{N: 120, Per: 5 * time.Minute}}}
	for i, step := range []struct {
		status        int
		quota         *source.Left
		hinted        bool
		hints, scarce bool
	}{
		{200, quota(1199), false, false, false},
		{200, nil, true, false, false},
		{200, quota(1199), true, true, false}, // ends what was said before this run
		{200, quota(119), false, true, true},
		{200, nil, false, false, true},
		{502, quota(1199), false, false, true},
		{200, &source.Left{Remaining: 5}, false, true, false}, // says no time: it is none
		{404, quota(0), false, true, true},
		{200, quota(120), false, true, false},
		{200, quota(1199), false, false, false},
	} {
		p := &polled{due: row{storage.DuePoll{Hinted: step.hinted}}, answer: source.Answer{HTTPStatus: step.status, Left: step.quota}}
		if r.Learn(p); p.hints != step.hints || r.scarce != step.scarce {
			t.Errorf("step %d: hints %v, scarce %v; want %+v", i, p.hints, r.scarce, step)
		}
	}
}

// The grace period is between refusals, not between a refusal and its record.
func TestLateRecordRejectsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sqlite:"+filepath.Join(t.TempDir(), "relay.db"))
	credential := f.watch("token", "op")
	group, due := f.taken()
	at := time.Now()
	p := f.poller(nil)
	p.now = func() time.Time { return at.Add(time.Hour) }
	refused := storage.PollResult{
		RowID: due.RowID, At: at, Next: at.Add(time.Second), Problem: "HTTP 401",
		RefusedSince: at, RefusedReason: storage.ReasonCredentialRejected, CredentialRefused: true,
	}
	r := &run{Poller: p, policy: p.policy, Lease: pipeline.Lease{Group: group}}
	if err := r.Record(t.Context(), []*polled{{due: due, at: at, PollResult: refused}}); err != nil {
		t.Fatal(err)
	}
	got, err := f.store.Credential(t.Context(), f.tenant, credential)
	if err != nil || got.Status != storage.CredentialActive || got.RefusedSince.IsZero() {
		t.Errorf("%v: %+v after one refusal", err, got)
	}
}

// A result that waits for a lock keeps nobody else's from being recorded, and is recorded
// when the lock is released.
func TestRecordingPollsWaitsForNoOther(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	f := newFixture(t, url)
	p := f.poller(nil)
	results := map[string][]*polled{}
	var budgets []string
	for i := range 2 {
		f.watch(fmt.Sprint("token", i), fmt.Sprint("op", i))
	}
	groups, err := f.store.DueGroups(t.Context(), 2)
	if err != nil || len(groups) != 2 {
		t.Fatalf("%v: %d groups are due", err, len(groups))
	}
	for _, g := range groups {
		due := f.take(g)
		budgets = append(budgets, g.ID)
		results[g.ID] = []*polled{{due: due, at: p.now(), PollResult: storage.PollResult{
			RowID: due.RowID, At: p.now(), Next: p.now().Add(time.Minute), Status: storage.OperationRunning,
		}}}
	}
	record := func(i int) error {
		r := &run{Poller: p, Lease: pipeline.Lease{Group: budgets[i]}}
		return r.Record(t.Context(), results[budgets[i]])
	}
	release := lock(t, url, `SELECT 1 FROM open_operations WHERE id = '`+testenv.UUID(results[budgets[0]][0].RowID)+`' FOR UPDATE`)
	waited := make(chan error, 1)
	go func() { waited <- record(0) }()
	for range 3 {
		if err := record(1); err != nil {
			t.Errorf("the other's: %v", err)
		}
	}
	select {
	case err := <-waited:
		t.Fatalf("the locked one waited no longer: %v", err)
	default:
	}
	release()
	if err := <-waited; err != nil {
		t.Errorf("after the lock: %v", err)
	}
}

// What is charged to the budget of one token is not asked with another.
func TestNoPollWithASecretThatIsNotCharged(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "sqlite:"+filepath.Join(t.TempDir(), "relay.db"))
	credential := f.watch("old", "op")
	_, due := f.taken()
	if _, err := f.store.UpdateCredential(t.Context(), f.tenant, credential, storage.CredentialPatch{
		Secret: &storage.CredentialSecret{APIToken: "new"},
	}); err != nil {
		t.Fatal(err)
	}
	asked := &silent{}
	r := &run{Poller: f.poller(asked)}
	if _, sent := r.Do(t.Context(), due); sent || asked.polls != 0 {
		t.Errorf("asked %d times", asked.polls)
	}
}

// silent is a source that counts.
type silent struct{ polls int }

// Poll implements Source.
func (s *silent) Poll(context.Context, source.Poll) source.Answer {
	s.polls++
	return source.Answer{}
}
