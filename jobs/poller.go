package jobs

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"oprelay/jobs/cloudflare"
	"oprelay/storage"
)

// pollsInFlight is how many requests one budget may have under way: enough to
// spend the budget of five minutes in seconds, few enough to stay polite.
const pollsInFlight = 16

const (
	// pollWriters is how many commits of many poll results a process has under way. Where
	// two end watches of a tenant one waits for the other, but does most of its work before.
	pollWriters = 2
	// fewPolls is up to how many results do not wait for, or with, hundreds of others': they
	// have a commit of their own.
	fewPolls = 8
)

// Source asks an upstream about one operation. It answers within its own
// timeout, never retries, and tells everything through the answer.
type Source interface {
	Poll(ctx context.Context, c cloudflare.Credential, accountID, operationID string) cloudflare.Answer
}

// poller works through budgets: the operations of the credentials that share one.
type poller struct {
	store  *storage.Store
	source Source
	policy PollPolicy
	budget storage.Budget
	// egress keeps this process under the upstream's limit per address.
	egress  *rate.Limiter
	secrets *cache[storage.CredentialSecret]
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics
	traces  tracing
	joint   *joint[*polled]
	few     *joint[*polled] // for fewPolls
}

// polled is what came of one poll, with what the group's budget learns from it: 1 KB,
// which goes by its address.
type polled struct {
	due    storage.DuePoll
	answer cloudflare.Answer
	at     time.Time
	storage.PollResult
}

// polling is one stay at a budget: from getting its lease to giving it back.
type polling struct {
	*poller
	turn
	parkedUntil time.Time
	// scarce is set when the upstream says that less is left than the budget allows:
	// then nothing is charged ahead of the next answer.
	scarce bool
}

// work polls what is due in the group while its lease holds.
func (p *poller) work(stop, work context.Context, t turn) (notBefore time.Time, err error) {
	v := &polling{poller: p, turn: t}
	d := drain[storage.DuePoll, *polled]{
		claim:  v.claim,
		pace:   v.pace,
		id:     func(due storage.DuePoll) string { return due.RowID },
		do:     p.poll,
		learn:  v.learn,
		record: func(ctx context.Context, results []*polled) error { return p.record(ctx, t.group.ID, results) },
		ahead:  min(ahead, p.budget.Slot()/4), // for a charge that is not used in time is lost
		linger: t.linger, crowded: t.crowded,
	}
	notBefore, err = d.run(stop, work, t.woken, t.leased)
	if v.parkedUntil.After(notBefore) {
		notBefore = v.parkedUntil
	}
	return notBefore, err
}

func (v *polling) claim(ctx context.Context, n int, busy map[string]bool) ([]storage.DuePoll, time.Time, error) {
	return v.store.TakePolls(ctx, storage.TakePolls{
		Group: v.group.ID, Owner: v.owner, Budget: v.budget, Max: n, Exclude: busy, MinInterval: v.policy.Min,
	})
}

// pace stops everything while the budget is parked.
func (v *polling) pace() pace {
	if v.now().Before(v.parkedUntil) {
		return pace{}
	}
	return pace{limit: pollsInFlight, careful: v.scarce}
}

// learn heeds at once what an answer says about the upstream's limits; heed has
// the budget remember it.
func (v *polling) learn(r *polled) {
	if r.answer.Outcome == cloudflare.RateLimited && r.Next.After(v.parkedUntil) {
		v.parkedUntil = r.Next
	}
	v.scarce = v.scarce || v.low(r.answer.Quota)
}

// low says whether less is left than the budget allows.
func (p *poller) low(q *cloudflare.Quota) bool {
	return q != nil && q.Remaining < p.budget.N && q.Reset > 0
}

// poll sends one request. A charge that has grown too old is forfeited: the row
// stays due and is charged anew.
func (p *poller) poll(ctx context.Context, due storage.DuePoll) (*polled, bool) {
	secret, err := p.secrets.get(due.CredentialID, func() (storage.CredentialSecret, error) {
		return p.store.OpenCredential(ctx, due.CredentialID)
	})
	switch {
	case err != nil && (ctx.Err() != nil || storage.Unavailable(err)):
		return nil, false // says nothing of the credential
	case err != nil:
		p.log.Error("cannot open a credential; its operations are polled again later", "credential_id", due.CredentialID, "error", err)
		unread := cloudflare.Answer{Outcome: cloudflare.Inconclusive, Problem: "the relay cannot open the credential: see its log"}
		return p.result(due, unread), true
	}
	if err := p.egress.Wait(ctx); err != nil || p.now().After(due.SendBy) {
		return nil, false
	}
	p.metrics.sending(p.now().Sub(due.DueAt))
	started := time.Now()
	answer := p.source.Poll(ctx, cloudflare.Credential{
		APIToken: string(secret.APIToken), Email: secret.Email, APIKey: string(secret.APIKey),
	}, due.AccountID, due.OperationID)
	if ctx.Err() != nil {
		return nil, false // the process ends: not the upstream's doing
	}
	p.metrics.polled(answer.Outcome, time.Since(started))
	p.traces.polled(due, answer, started)
	return p.result(due, answer), true
}

func (p *poller) result(due storage.DuePoll, answer cloudflare.Answer) *polled {
	at := p.now()
	return &polled{
		due: due, answer: answer, at: at,
		PollResult: p.policy.observe(due, answer, at, rand.Float64()),
	}
}

// record parks or narrows the budget if an answer says so, and writes all results:
// together with those of other budgets, unless a credential is in trouble.
func (p *poller) record(ctx context.Context, budget string, results []*polled) error {
	if err := p.heed(ctx, budget, results); err != nil {
		return err
	}
	if slices.ContainsFunc(results, func(r *polled) bool { return r.CredentialRefused }) {
		return p.write(ctx, results)
	}
	if len(results) <= fewPolls {
		return p.few.do(ctx, results)
	}
	return p.joint.do(ctx, results)
}

// write writes results of any budgets, and rejects credentials whose grace is over.
func (p *poller) write(ctx context.Context, results []*polled) error {
	rows := make([]storage.PollResult, len(results))
	refused := map[string]time.Time{} // when each credential was refused last
	for i, r := range results {
		rows[i] = r.PollResult
		if r.CredentialRefused && r.at.After(refused[r.due.CredentialID]) {
			refused[r.due.CredentialID] = r.at
		}
	}
	var rejected []string
	// One transaction: the last refusal of a credential may end its last watch, and
	// no poll would come back to reject it.
	err := p.store.Atomically(ctx, func(tx *storage.Store) error {
		rejected = nil
		if err := tx.RecordPolls(ctx, rows); err != nil {
			return err
		}
		for id, at := range refused {
			// By the time of the answer: an outage between it and this may be longer
			// than the grace period.
			ok, err := tx.RejectCredential(ctx, id, at.Add(-p.policy.UnobservableAfter))
			if err != nil {
				return err
			}
			if ok {
				rejected = append(rejected, id)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.metrics.recorded(storage.PollGroup, len(results))
	for _, id := range rejected {
		p.log.Warn("the upstream has refused a credential for longer than the grace period; it is rejected and its watches end",
			"credential_id", id)
		if err := p.store.EndRejected(ctx, id); err != nil {
			p.log.Warn("not all watches of a rejected credential have ended; their own polls end the rest", "credential_id", id, "error", err)
		}
	}
	return nil
}

// heed carries what the upstream says about its limits over to the budget: a 429
// and the lowest of the quotas.
func (p *poller) heed(ctx context.Context, budget string, results []*polled) error {
	var locked, low *polled
	for _, r := range results {
		if r.answer.Outcome == cloudflare.RateLimited && (locked == nil || r.Next.After(locked.Next)) {
			locked = r
		}
		if q := r.answer.Quota; p.low(q) && (low == nil || q.Remaining < low.answer.Quota.Remaining) {
			low = r
		}
	}
	if locked != nil {
		p.log.Warn("the upstream rate-limits a credential; all its operations rest",
			"credential_id", locked.due.CredentialID, "until", p.store.Dated(locked.Next), "answer", locked.answer.Problem)
		return p.store.ParkBudget(ctx, budget, locked.Next)
	}
	if low != nil {
		q := low.answer.Quota
		return p.store.HintBudget(ctx, budget, q.Remaining, low.at.Add(q.Reset))
	}
	return nil
}
