package chaos

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"oprelay/jobs/cloudflare/simulator"
)

// fault is one thing that goes wrong, while watches are being registered.
type fault struct {
	order   int
	name    string
	refusal onRefusal
	// refuses says that some registrations are to be answered 503.
	refuses bool
	// silent says that some may get no answer: the api itself goes away.
	silent bool
	// patient has no limit on its recovery: what is slow is not the relay.
	patient bool
	// inject does the harm and mends it.
	inject func(*testing.T, *episode)
}

// episode is a fault while it lasts.
type episode struct {
	*rig

	load  *load
	marks []time.Time // from when on the relay had all it needs
}

// endure injects the fault under load, waits until all is told, and enters
// into the table what the books say of it.
func (r *rig) endure(t *testing.T, f fault) {
	t.Helper()
	l := r.newLoad()
	l.refusal = f.refusal
	l.start()
	e := &episode{rig: r, load: l}
	await(t, theForm().spell) // something is under way by then
	f.inject(t, e)
	await(t, theForm().spell)
	l.end()
	r.settle(t, l.books)
	result := r.audit(t, l.books)
	result.order, result.fault, result.recovery = f.order, f.name, l.books.recovery(e.marks)
	r.enter(t, result)
	if f.refuses && result.refused == 0 {
		t.Error("no registration was answered 503")
	}
	if !f.silent && result.unanswered > 0 {
		t.Errorf("%d registrations were not answered, though the api was there; one: %v", result.unanswered, l.books.unanswered[0])
	}
	if *long && !f.patient && result.recovery > recoveryLimit {
		t.Errorf("recovered only after %s, want %s at most", result.recovery, recoveryLimit)
	}
}

// recoveryLimit is within what the relay has to be itself again.
const recoveryLimit = 15 * time.Second

// enter adds the row to the table and judges what holds for every fault.
func (r *rig) enter(t *testing.T, result row) {
	t.Helper()
	for _, p := range r.processes() {
		select {
		case <-p.Ended:
			t.Errorf("a process of the relay has ended:\n%s", p.Stderr)
		default:
		}
	}
	if result.doubled > result.interrupted {
		t.Errorf("%d messages were accepted twice though who sent them was not killed", result.doubled-result.interrupted)
	}
	t.Logf("%+v", result)
	results.add(result)
}

// recovered notes that from now on the relay has all it needs, and registers a
// watch whose operation is over.
func (e *episode) recovered() {
	now := time.Now()
	e.marks = append(e.marks, now)
	e.load.running.Go(func() { e.load.register(1, func() simulator.Plan { return simulator.Plan{} }) })
}

// kill kills the process at once, and notes when, and which connections were its own.
func (e *episode) kill(p *process) {
	connections := p.Freeze()
	e.killed = append(e.killed, killing{at: time.Now(), connections: connections})
	p.Kill()
}

// awaitReadiness waits until /readyz has the status and says so, and the metric agrees.
func (e *episode) awaitReadiness(t *testing.T, status int, says string) {
	t.Helper()
	up := "relay_database_up 0"
	if status == http.StatusOK {
		up = "relay_database_up 1"
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		got, ready := e.page(ctx, "/readyz")
		_, metrics := e.page(ctx, "/metrics")
		if got == status && strings.Contains(ready, says) && strings.Contains(metrics, up) {
			return
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			t.Fatalf("/readyz is %d, want %d with %q and %s:\n%s", got, status, says, up, ready)
		}
	}
}

// page is what the api shows to whoever has no key; 0 if it does not answer.
func (e *episode) page(ctx context.Context, path string) (status int, text string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.api.listen+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

// reads checks that what needs no write goes on.
func (e *episode) reads(t *testing.T) {
	t.Helper()
	page, err := e.client.ListWatchesWithResponse(t.Context(), nil)
	if err != nil || page.JSON200 == nil {
		t.Errorf("a list meanwhile: %v", err)
	}
}

// await lets time pass: how long a fault lasts, never what a test waits for.
func await(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
