package chaos

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
)

// probes are the watches by which a neighbour's delay is measured.
type probes struct{ count, rate int }

func theProbes() probes {
	if *long {
		return probes{count: 600, rate: 40}
	}
	return probes{count: 40, rate: 20}
}

// alone keeps other suites from running beside this one where it is measured.
func alone(t *testing.T) {
	t.Helper()
	if !*long {
		t.Parallel()
	}
}

// A destination that hangs and one that answers 500 have 2,000 deliveries
// waiting each: what goes to a healthy one arrives meanwhile as before.
func TestADestinationsNeighbours(t *testing.T) {
	alone(t)
	crowd := 200
	if *long {
		crowd = 2000
	}
	r := newRig(t, testenv.Postgres(t), testenv.Redis(t), 3)
	mux := http.NewServeMux()
	mux.HandleFunc("/hangs", func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body) // only then the server notices that the sender gives up
		<-req.Context().Done()
	})
	mux.HandleFunc("/fails", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	troubled := serve(t, mux)
	ill := r.newLoad()
	ill.destinations = map[string]string{"/hangs": r.destination(troubled + "/hangs"), "/fails": r.destination(troubled + "/fails")}

	before := r.measure(t, afterEvent)
	for range crowd / 100 {
		ill.register(100, func() simulator.Plan { return simulator.Plan{} })
	}
	awaitEvents(t, r, ill.books)
	during := r.measure(t, afterEvent)
	for path, id := range ill.destinations {
		waiting := r.count(t, client.ListDeliveriesParams{DestinationID: &id, Status: new(client.DeliveryPending)})
		if accepted := r.count(t, client.ListDeliveriesParams{DestinationID: &id, Status: new(client.DeliverySucceeded)}); waiting == 0 || accepted > 0 {
			t.Errorf("%s has %d deliveries waiting and %d accepted: it is no neighbour in trouble", path, waiting, accepted)
		}
	}
	compare(t, fmt.Sprintf("event to arrival, beside destinations that hang and fail with %d deliveries", 2*crowd), before, during)
}

// A credential that is locked out has thousands of operations: those of another
// are noticed as before.
func TestACredentialsNeighbours(t *testing.T) {
	alone(t)
	crowd := 1000
	if *long {
		crowd = 10_000
	}
	r := newRig(t, testenv.Postgres(t), testenv.Redis(t), 3)
	r.fault(simulator.Fault{Credential: simulator.TokenFingerprint("locked"), Misbehaviour: simulator.Misbehaviour{Name: "rate_limited"}})
	locked := r.newLoad()
	locked.credentials = []string{r.credential("locked")}

	before := r.measure(t, afterAsking)
	for range crowd / 1000 {
		locked.register(1000, func() simulator.Plan { return simulator.Plan{} })
	}
	during := r.measure(t, afterAsking)
	if open, _ := locked.books.open(); open != crowd {
		t.Errorf("%d of %d watches of the credential that is locked out are open", open, crowd)
	}
	compare(t, fmt.Sprintf("registration to arrival, beside a credential that is locked out with %d operations", crowd), before, during)
}

// A tenant registers watches by the thousand: another's are registered, noticed
// and told meanwhile.
func TestATenantsNeighbours(t *testing.T) {
	alone(t)
	crowd := 5000
	if *long {
		crowd = 100_000
	}
	r := newRig(t, testenv.Postgres(t), testenv.Redis(t), 3)
	other := r.tenant("busy")

	before := r.measure(t, afterAsking)
	registered := make(chan struct{})
	go func() {
		defer close(registered)
		busy := other.newLoad()
		for range crowd / 1000 {
			busy.register(1000, func() simulator.Plan { return simulator.Plan{End: simulator.EndNever} })
		}
	}()
	during := r.measure(t, afterAsking)
	<-registered
	after := r.measure(t, afterAsking)
	compare(t, fmt.Sprintf("registration to arrival, while another tenant registers %d watches", crowd), before, during)
	compare(t, fmt.Sprintf("registration to arrival, beside %d watches of another tenant", crowd), before, after)
}

// tenant is the same relay through another tenant's key.
func (r *rig) tenant(name string) *rig {
	r.t.Helper()
	other := *r
	other.connect(strings.TrimSpace(r.run("keys", "create", "--tenant", name, "--name", name, "--scope", "admin")))
	other.credentials, other.destinations = []string{other.credential("another's")}, map[string]string{}
	other.destinations["/another"] = other.destination(r.address + "/another")
	return &other
}

// The delays that are measured.
var (
	// afterEvent is from the making of the event to its arrival.
	afterEvent = func(e entry, got *receipt) time.Duration { return got.accepted[0].at.Sub(got.message.Timestamp) }
	// afterAsking is from the request to the arrival, for operations that are over
	// by then: registration, detection and delivery.
	afterAsking = func(e entry, got *receipt) time.Duration { return got.accepted[0].at.Sub(e.asked) }
)

// measure registers watches on operations that are over, at a steady rate, to one
// destination each, and returns their delays, sorted. Every one has to arrive.
func (r *rig) measure(t *testing.T, delay func(entry, *receipt) time.Duration) []time.Duration {
	t.Helper()
	l := r.newLoad()
	l.receive.tell(l.books)
	tick := time.NewTicker(time.Second / time.Duration(theProbes().rate))
	defer tick.Stop()
	for range theProbes().count {
		<-tick.C
		l.running.Go(func() { l.register(1, func() simulator.Plan { return simulator.Plan{} }) })
	}
	l.running.Wait()
	r.settle(t, l.books)
	var delays []time.Duration
	for _, e := range l.books.all() {
		for _, got := range r.receive.of(e.operation, e.destinations) {
			if got != nil {
				delays = append(delays, delay(e, got))
			}
		}
	}
	slices.Sort(delays)
	return delays
}

// awaitEvents waits until every watch in the books has its event.
func awaitEvents(t *testing.T, r *rig, b *books) {
	t.Helper()
	look := time.NewTicker(again)
	defer look.Stop()
	for deadline := time.Now().Add(patience); ; {
		events, want := 0, 0
		told := r.ledger(t)
		for _, e := range b.all() {
			want++
			events += len(told.events[e.watch])
		}
		if events == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d events for %d watches within %s", events, want, patience)
		}
		<-look.C
	}
}

// count is how many deliveries there are, a page of them at most.
func (r *rig) count(t *testing.T, params client.ListDeliveriesParams) int {
	t.Helper()
	params.Limit = new(200)
	page, err := r.client.ListDeliveriesWithResponse(t.Context(), &params)
	if err != nil {
		t.Fatal(err)
	}
	if page.JSON200 == nil {
		t.Fatalf("list deliveries: %s", page.Body)
	}
	return len(page.JSON200.Data)
}

// neighbourLimit is how many times as long a healthy neighbour's 99th percentile
// may be. A machine that does nothing else is quick to the millisecond, and
// doubles it by chance; what is below the floor is not told apart.
const (
	neighbourLimit = 2.0
	neighbourFloor = 50 * time.Millisecond
)

// compare enters the delays into the table and, in the long form, judges them.
func compare(t *testing.T, what string, before, during []time.Duration) {
	t.Helper()
	if len(before) == 0 || len(during) == 0 {
		t.Fatalf("%s: nothing arrived", what)
	}
	d := delays{what: what, before: percentile99(before), during: percentile99(during)}
	results.addDelays(d)
	t.Logf("%s: p99 %s before, %s during", what, d.before, d.during)
	if *long && d.during > neighbourFloor && d.ratio() > neighbourLimit {
		t.Errorf("%s: p99 is %.1f times as long, want %.0f at most", what, d.ratio(), neighbourLimit)
	}
}

func percentile99(sorted []time.Duration) time.Duration { return sorted[(len(sorted)*99)/100] }
