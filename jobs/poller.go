package jobs

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"

	"oprelay/jobs/cloudflare"
	"oprelay/storage"
)

// pollsInFlight is how many requests one budget may have under way: enough to
// spend the budget of five minutes in seconds, few enough to stay polite.
const pollsInFlight = 16

// chargeShare of a budget's period may pass between a charge and its request: a
// tenth, which is the room that the store's count leaves. What is sent later could
// push a window over the budget.
const chargeShare = 10

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
}

// polled is what came of one poll, with what the group's budget learns from it.
type polled struct {
	due    storage.DuePoll
	answer cloudflare.Answer
	at     time.Time
	storage.PollResult
}

// work polls what is due in the group while its lease holds.
func (p *poller) work(stop, work context.Context, t turn) (notBefore time.Time, err error) {
	d := drain[taken, polled]{
		claim: func(ctx context.Context, n int, inFlight map[string]bool) ([]taken, time.Time, error) {
			return p.claim(ctx, t, n, inFlight)
		},
		limit:  func() int { return pollsInFlight },
		id:     func(row taken) string { return row.RowID },
		do:     p.poll,
		record: func(ctx context.Context, results []polled) error { return p.record(ctx, t.group.ID, results) },
	}
	return d.run(stop, work, t.woken, t.leased)
}

// taken is a due poll whose request the budget has been charged for.
type taken struct {
	storage.DuePoll
	sendBy time.Time
}

func (p *poller) claim(ctx context.Context, t turn, n int, inFlight map[string]bool) ([]taken, time.Time, error) {
	sendBy := p.now().Add(p.budget.Per / chargeShare)
	due, notBefore, err := p.store.TakePolls(ctx, storage.TakePolls{
		Group: t.group.ID, Owner: t.owner, Budget: p.budget, Max: n, Exclude: inFlight, MinInterval: p.policy.Min,
	})
	rows := make([]taken, len(due))
	for i := range due {
		rows[i] = taken{due[i], sendBy}
	}
	return rows, notBefore, err
}

// poll sends one request. A charge that has grown too old is forfeited: the row
// stays due and is charged anew.
func (p *poller) poll(ctx context.Context, row taken) (polled, bool) {
	secret, err := p.secrets.get(row.CredentialID, func() (storage.CredentialSecret, error) {
		return p.store.OpenCredential(ctx, row.CredentialID)
	})
	switch {
	case err != nil && (ctx.Err() != nil || storage.Unavailable(err)):
		return polled{}, false // says nothing of the credential
	case err != nil:
		p.log.Error("cannot open a credential; its operations are polled again later", "credential_id", row.CredentialID, "error", err)
		unread := cloudflare.Answer{Outcome: cloudflare.Inconclusive, Problem: "the relay cannot open the credential: see its log"}
		return p.result(row, unread), true
	}
	if err := p.egress.Wait(ctx); err != nil || p.now().After(row.sendBy) {
		return polled{}, false
	}
	started := time.Now()
	answer := p.source.Poll(ctx, cloudflare.Credential{
		APIToken: string(secret.APIToken), Email: secret.Email, APIKey: string(secret.APIKey),
	}, row.AccountID, row.OperationID)
	if ctx.Err() != nil {
		return polled{}, false // the process ends: not the upstream's doing
	}
	p.metrics.polled(answer.Outcome, time.Since(started))
	return p.result(row, answer), true
}

func (p *poller) result(row taken, answer cloudflare.Answer) polled {
	at := p.now()
	return polled{
		due: row.DuePoll, answer: answer, at: at,
		PollResult: p.policy.observe(row.DuePoll, answer, at, rand.Float64()),
	}
}

// record parks or narrows the budget if an answer says so, then writes all
// results in one transaction, then rejects credentials whose grace is over.
func (p *poller) record(ctx context.Context, budget string, results []polled) error {
	if err := p.heed(ctx, budget, results); err != nil {
		return err
	}
	rows := make([]storage.PollResult, len(results))
	refused := map[string]bool{}
	for i, r := range results {
		rows[i] = r.PollResult
		if r.CredentialRefused {
			refused[r.due.CredentialID] = true
		}
	}
	if err := p.store.RecordPolls(ctx, rows); err != nil {
		return err
	}
	for id := range refused {
		rejected, err := p.store.RejectCredential(ctx, id, p.now().Add(-p.policy.UnobservableAfter))
		if err != nil {
			return err
		}
		if rejected {
			p.log.Warn("the upstream has refused a credential for longer than the grace period; it is rejected and its watches end",
				"credential_id", id)
		}
	}
	return nil
}

// heed carries what the upstream says about its limits over to the budget: a 429
// and the lowest of the quotas.
func (p *poller) heed(ctx context.Context, budget string, results []polled) error {
	var locked, low *polled
	for i := range results {
		r := &results[i]
		if r.answer.Outcome == cloudflare.RateLimited && (locked == nil || r.Next.After(locked.Next)) {
			locked = r
		}
		q := r.answer.Quota
		if q != nil && q.Remaining < p.budget.N && q.Reset > 0 && (low == nil || q.Remaining < low.answer.Quota.Remaining) {
			low = r
		}
	}
	if locked != nil {
		p.log.Warn("the upstream rate-limits a credential; all its operations rest",
			"credential_id", locked.due.CredentialID, "until", locked.Next, "answer", locked.answer.Problem)
		return p.store.ParkBudget(ctx, budget, locked.Next)
	}
	if low != nil {
		q := low.answer.Quota
		return p.store.HintBudget(ctx, budget, q.Remaining, low.at.Add(q.Reset))
	}
	return nil
}
