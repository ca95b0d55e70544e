package jobs

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/jobs/deliver"
	"oprelay/jobs/poll"
	"oprelay/jobs/source"
	"oprelay/notifier/webhooktest"
	"oprelay/storage"
)

// Redis is emptied, then killed, while many watches pend and many deliveries wait
// for a retry: every event arrives.
func TestNothingIsLostWithRedis(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			server := testenv.StartRedis(t)
			b.redis = func(*testing.T) string { return server.URL }
			r := newRelay(t, b)
			r.deliver.Retry = deliver.RetrySchedule{2 * time.Second, 2 * time.Second}
			r.poll.Policy.Min, r.poll.Policy.Max = time.Second, 2*time.Second
			to := r.webhook(nil)
			to.Respond(webhooktest.FirstAttempts(1, webhooktest.Answer{Status: http.StatusServiceUnavailable}))
			r.start()
			const pending, waiting = 200, 100
			for _, id := range operations("pending", pending) {
				r.add(id, simulator.Plan{RunningFor: 4 * time.Second})
			}
			watches := make([]storage.Watch, 0, pending+waiting)
			for i := range 10 { // under several budgets
				credential := r.credential(fmt.Sprint("token", i))
				ids := slices.Concat(operations("pending", pending)[i*pending/10:(i+1)*pending/10], operations(fmt.Sprint("waiting", i), waiting/10))
				watches = append(watches, r.watch(credential, ids, to.id)...)
			}
			r.await(to, waiting)
			if err := openRedis(t, server.URL).FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			r.lines.await(t, 1, redisLost)
			server.Kill()
			r.lines.await(t, 1, redisAway)
			server.Restart()
			r.lines.await(t, 1, redisBack)
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			if arrivals, err := to.Wait(ctx, func(a []webhooktest.Arrival) bool { return len(events(a)) == len(watches) }); err != nil {
				t.Errorf("%d of %d events arrived", len(events(arrivals)), len(watches))
			}
		})
	}
}

// Everything goes on while Redis never answers at all.
func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	b := sqliteBackend()
	server := testenv.StartRedis(t)
	server.Kill()
	b.redis = func(*testing.T) string { return server.URL }
	r := newRelay(t, b)
	r.start()
	to := r.webhook(nil)
	r.add("op", simulator.Plan{RunningFor: time.Second})
	r.watch(r.credential("token"), []string{"op", "other"}, to.id)
	r.await(to, 2)
	if got := r.lines.holding(redisAway); len(got) != 1 {
		t.Errorf("logged %q", got)
	}
}

// Two, then three workers on one store together keep a budget in every window,
// and send one at a time to a destination that wants it so.
func TestWorkersShareLimits(t *testing.T) {
	t.Parallel()
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, b)
			r.poll.Budget = storage.Budget{N: 20, Per: 4 * time.Second}
			polls := &noted{Client: r.poll.Client}
			r.poll.Client = polls
			var at *counter
			stand := r.webhook(nil)
			to := r.webhook(func(n *storage.NewDestination) {
				n.MaxInFlight = 1
				at = counted(t, n, stand, 5*time.Millisecond)
			})
			r.start()
			r.start()
			for i := range 3 { // of one token, so of one budget
				credential := r.credential("token")
				ids := operations(fmt.Sprint("endless", i), 10)
				for _, id := range ids {
					r.add(id, simulator.Plan{End: simulator.EndNever})
				}
				r.watch(credential, ids, to.id)
			}
			r.watch(r.credential("another"), operations("op", 15), to.id)
			polled := func(n int) func() bool { return func() bool { return polls.mostIn(time.Hour, "token") >= n } }
			eventually(t, polled(30), nil, "30 polls")
			r.start()
			r.watch(r.credential("yet another"), operations("op", 15), to.id)
			eventually(t, polled(60), nil, "60 polls")
			r.settled(30, to.id, storage.DeliverySucceeded)
			if n := polls.mostIn(4*time.Second, "token"); n > 20 {
				t.Errorf("%d requests in one window, more than the budget", n)
			}
			if most := at.most(); most != 1 {
				t.Errorf("%d requests at a time", most)
			}
		})
	}
}

// noted notes when each poll begins: a busy machine may take longer than a tenth of so
// short a window to bring it to the upstream, where it is counted.
type noted struct {
	poll.Client

	mu  sync.Mutex
	log []noting
}

type noting struct {
	token string
	at    time.Time
}

func (n *noted) Poll(ctx context.Context, p source.Poll) source.Answer {
	n.mu.Lock()
	n.log = append(n.log, noting{p.Credential.Fields.APIToken, time.Now()})
	n.mu.Unlock()
	return n.Client.Poll(ctx, p)
}

// mostIn is how many of a token's polls began within a window, wherever that begins.
func (n *noted) mostIn(window time.Duration, token string) (most int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var within []time.Time
	for _, poll := range n.log {
		if poll.token != token {
			continue
		}
		within = append(within, poll.at)
		for poll.at.Sub(within[0]) >= window {
			within = within[1:]
		}
		most = max(most, len(within))
	}
	return most
}

// A worker that dies while it polls is followed by another within its lease,
// whatever the clock is set to meanwhile.
func TestTakeOverOfPolls(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]time.Duration{"": 0, "clock set forward": time.Hour, "clock set back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			takeOverOfPolls(t, step)
		})
	}
}

func takeOverOfPolls(t *testing.T, step time.Duration) {
	t.Helper()
	r := newRelay(t, postgresBackend())
	to := r.webhook(nil)
	r.add("op", simulator.Plan{Misbehaviour: simulator.Misbehaviour{Name: "hang", Times: 1}})
	w := r.start()
	watch := r.watchFor(2*time.Hour, r.credential("token"), []string{"op"}, to.id)[0]
	eventually(t, func() bool { return len(r.upstream.Requests()) == 1 }, nil, "a poll")
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	if w.Stop(dead) == nil {
		t.Error("it waited")
	}
	r.step.Store(int64(step))
	r.start()
	if watch = r.ended(watch); watch.Status != storage.WatchCompleted || watch.Polls != 1 {
		t.Errorf("got %+v", watch)
	}
	requests := r.upstream.Requests()
	if took := requests[1].Time.Sub(requests[0].Time); took < leaseTTL-leaseRenew || took > 2*leaseTTL {
		t.Errorf("taken over after %v", took)
	}
}
