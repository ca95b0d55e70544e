// Package poll asks the upstream about the operations that are watched, within the budget
// that their credentials share.
package poll

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"oprelay/jobs/pipeline"
	"oprelay/jobs/source"
	"oprelay/storage"
)

// maxInFlight is how many requests one budget may have under way: enough to
// spend the budget of five minutes in seconds, few enough to stay polite.
const maxInFlight = 16

// Client asks an upstream about one operation. It answers within its own timeout, never
// retries, and tells everything through the answer.
type Client interface {
	Poll(ctx context.Context, p source.Poll) source.Answer
}

// Config is what a poller is made of.
type Config struct {
	Store   *storage.Store
	Client  Client
	Sources *source.Set
	Policy  Policy         // its Park is each upstream's own
	Budget  storage.Budget // of each budget; zero for the upstream's own
	Egress  storage.Budget // of this process for an upstream; zero for the upstream's own
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil for none
	Tracer  trace.Tracer          // nil for none
}

// Poller works through budgets: the operations of the credentials that share one.
type Poller struct {
	store     *storage.Store
	client    Client
	sources   *source.Set
	upstreams map[string]upstream
	policy    Policy
	secrets   secrets
	now       func() time.Time
	log       *slog.Logger
	metrics   *metrics
	tracer    trace.Tracer
}

// New makes a poller.
func New(cfg Config) *Poller {
	return &Poller{
		store: cfg.Store, client: cfg.Client, sources: cfg.Sources, upstreams: upstreams(cfg), policy: cfg.Policy,
		secrets: newSecrets(),
		now:     cfg.Store.Steady, log: cfg.Logger, metrics: newMetrics(cfg.Metrics, cfg.Sources.Sources()), tracer: cfg.Tracer,
	}
}

// upstream is what polls of an upstream are held to.
type upstream struct {
	budget storage.Budget
	park   time.Duration
	// egress keeps this process under the upstream's limit per address.
	egress *rate.Limiter
}

// undefined is for an upstream that has no definition any more: its operations are not asked
// about, and each of their polls says so until their deadlines.
func undefined() upstream {
	return upstream{budget: storage.Budget{N: 120, Per: 5 * time.Minute}, egress: rate.NewLimiter(rate.Inf, 1)}
}

func upstreams(cfg Config) map[string]upstream {
	all := map[string]upstream{}
	for _, u := range cfg.Sources.Upstreams() {
		egress := cmp.Or(cfg.Egress, storage.Budget(u.Egress))
		all[u.Name] = upstream{
			budget: cmp.Or(cfg.Budget, storage.Budget(u.Budget)), park: u.Park,
			egress: rate.NewLimiter(rate.Limit(float64(egress.N)/egress.Per.Seconds()), 1),
		}
	}
	return all
}

// run is one run at a budget: from getting its lease to giving it back.
type run struct {
	*Poller
	pipeline.Lease
	upstream

	policy Policy
	// redirected is how many requests beyond the charged ones were made since the last claim.
	redirected atomic.Int64

	parkedUntil time.Time
	// scarce is set when the upstream says that less is left than the budget allows:
	// then nothing is charged ahead of the next answer.
	scarce bool
	// raised is set when a later answer has contradicted that.
	raised bool
	// limit is what the last claim said, with the latest Again.
	limit storage.Pause
	// found are operations that were found to have ended since the last claim.
	mu    sync.Mutex
	found []storage.DuePoll // by mu
}

// Run polls what is due in the leased budget until stop ends; what is under way goes on
// until work does. It returns until when a limit lets nothing more be polled.
func (p *Poller) Run(stop, work context.Context, lease pipeline.Lease) (pause storage.Pause, err error) {
	u, known := p.upstreams[storage.UpstreamOfBudget(lease.Group)]
	if !known {
		u = undefined()
	}
	r := &run{Poller: p, Lease: lease, upstream: u, policy: p.policy}
	r.policy.Park = u.park
	line := pipeline.Pipeline[row, *polled]{
		Work: r, Unavailable: storage.Unavailable,
		Ahead: min(pipeline.Ahead, u.budget.Slot()/4), // for a charge that is not used in time is lost
	}
	until, err := line.Run(stop, work, lease)
	pause = storage.Pause{Until: until, ButNew: r.limit.ButNew, Again: r.limit.Again}
	if r.raised {
		pause = storage.Pause{} // which was planned by the count that did not hold
	}
	if r.parkedUntil.After(pause.Until) {
		pause = storage.Pause{Until: r.parkedUntil}
	}
	return pause, err
}

// row is an operation that is due.
type row struct{ storage.DuePoll }

// ID implements pipeline.Row.
func (r row) ID() string { return r.RowID }

// Claim implements pipeline.Work: it charges the polls to the budget.
func (r *run) Claim(ctx context.Context, n int, busy map[string]bool) ([]row, time.Time, error) {
	r.mu.Lock()
	found := r.found
	r.found = nil
	r.mu.Unlock()
	taken, err := r.store.TakePolls(ctx, storage.TakePolls{
		Group: r.Group, Owner: r.Owner, Budget: r.budget, Max: n, Exclude: busy,
		Intervals: r.policy.Intervals, Grace: r.policy.UnobservableAfter, Ended: found, Redirected: int(r.redirected.Swap(0)),
	})
	r.limit.ButNew = taken.Pause.ButNew
	if taken.Pause.Again.After(r.limit.Again) {
		r.limit.Again = taken.Pause.Again
	}
	if taken.Asked > 0 {
		log := r.log
		if len(taken.Polls) > 0 { // one of those that share the budget
			log = log.With("credential_id", taken.Polls[0].CredentialID)
		}
		log.Warn("what is watched with a credential asks for far more polls than its budget has, so ends are noticed late: "+
			"raise RELAY_POLL_BUDGET if the upstream allows it, or watch fewer operations at a time",
			"budget", r.budget.String(), "asked", math.Round(10*taken.Asked)/10, "group", r.Group)
	}
	rows := make([]row, len(taken.Polls))
	for i, due := range taken.Polls {
		rows[i] = row{due}
	}
	return rows, taken.Pause.Until, err
}

// Limit implements pipeline.Work. It stops everything while the budget is parked.
func (r *run) Limit() pipeline.Limit {
	if r.now().Before(r.parkedUntil) {
		return pipeline.Limit{}
	}
	return pipeline.Limit{InFlight: maxInFlight, Careful: r.scarce}
}

// Pause implements pipeline.Work.
func (*run) Pause() time.Duration { return 0 }

// Learn implements pipeline.Work. It goes by what an answer says about the upstream's
// limits at once; Record has the budget remember it.
func (r *run) Learn(p *polled) (more bool) {
	if p.answer.Verdict == source.Limited && p.Next.After(r.parkedUntil) {
		r.parkedUntil = p.Next
	}
	switch hinted := r.scarce || p.due.Hinted; {
	case r.low(p.answer.Left):
		r.scarce, r.raised, p.hints = true, false, true
	case hinted && p.answer.Left != nil && p.answer.HTTPStatus == http.StatusOK:
		r.scarce, r.raised, p.hints = false, true, true
	}
	redirected := p.answer.Requests > 1 // which the next claim charges
	if p.End == "" || !p.due.Plan.Scarce() {
		return redirected
	}
	p.due.LastPolledAt = p.at
	r.mu.Lock()
	r.found = append(r.found, p.due.DuePoll)
	r.mu.Unlock()
	return true
}

// low says whether less is left than the budget allows.
func (r *run) low(q *source.Left) bool {
	return q != nil && q.Remaining < r.budget.N && q.Reset > 0
}

// polled is what came of one poll: 1 KB, which goes by its address.
type polled struct {
	due    row
	answer source.Answer
	at     time.Time
	hints  bool // the budget is to go by the answer's quota
	storage.PollResult
}

// Do implements pipeline.Work: it sends one request. A charge that has grown too old is
// forfeited: the row stays due and is charged anew.
func (r *run) Do(ctx context.Context, due row) (*polled, bool) {
	secret, err := r.secret(ctx, due)
	switch {
	case errors.Is(err, errSecretReplaced):
		return nil, false // the budget of another is charged
	case err != nil && (ctx.Err() != nil || storage.Unavailable(err)):
		return nil, false // says nothing of the credential
	case err != nil:
		r.log.Error("cannot open a credential; its operations are polled again later", "credential_id", due.CredentialID, "error", err)
		return r.untold(due, "the relay cannot open the credential: see its log"), true
	}
	asked := r.sources.Source(due.Source)
	if asked == nil {
		return r.untold(due, "the relay has no definition of "+due.Source+": see RELAY_SOURCES"), true
	}
	if err := r.egress.Wait(ctx); err != nil || r.now().After(due.SendBy) {
		return nil, false
	}
	r.metrics.lag.Observe(max(r.now().Sub(due.DueAt), 0).Seconds())
	started := time.Now()
	answer := r.client.Poll(ctx, source.Poll{
		Source: asked, Credential: credential(due, secret), Params: due.Params, OperationID: due.OperationID,
	})
	r.redirected.Add(int64(max(answer.Requests-1, 0)))
	if ctx.Err() != nil {
		return nil, false // the process ends: not the upstream's doing
	}
	if answer.Detail != "" {
		r.log.Debug("a poll got no whole answer", "credential_id", due.CredentialID, "operation_id", due.OperationID,
			"problem", answer.Problem, "error", answer.Detail)
	}
	r.metrics.polled(asked, answer.Verdict, time.Since(started))
	tracePoll(r.tracer, due, answer, started)
	return r.result(due, answer), true
}

// untold is what comes of a poll that was not sent.
func (r *run) untold(due row, problem string) *polled {
	return r.result(due, source.Answer{Verdict: source.Inconclusive, Problem: problem})
}

func credential(due row, s storage.CredentialSecret) source.Credential {
	return source.Credential{ID: due.CredentialID, Version: s.Version, Fields: source.Fields{
		APIToken: string(s.APIToken), Email: s.Email, APIKey: string(s.APIKey), Username: s.Username, Password: string(s.Password),
		ClientID: s.ClientID, ClientSecret: string(s.ClientSecret), ServiceAccount: string(s.ServiceAccount),
	}}
}

func (r *run) result(due row, answer source.Answer) *polled {
	at := r.now()
	planned := due.Plan.After(r.policy.Intervals, due.OperationID, due.Polls+1, at.Sub(due.CreatedAt))
	return &polled{due: due, answer: answer, at: at, PollResult: r.policy.observe(due.DuePoll, answer, at, planned)}
}
