package chaos

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
)

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
	ill.everywhere, ill.destinations = true, map[string]string{"/hangs": r.destination(troubled + "/hangs"), "/fails": r.destination(troubled + "/fails")}

	alone := r.measure(t, afterEvent)
	for range crowd / 100 {
		ill.register(100, func() simulator.Plan { return simulator.Plan{} })
	}
	awaitEvents(t, r, ill.books)
	r.allPending(t, ill.destinations, crowd)
	beside := r.measure(t, afterEvent)
	r.allPending(t, ill.destinations, crowd) // and so they were meanwhile: what has an end never waits again
	compare(t, fmt.Sprintf("event to arrival, beside destinations that hang and fail with %d deliveries each", crowd), alone, beside, 0)
}

// allPending wants as many deliveries waiting at each of the destinations, and none
// that came to an end.
func (r *rig) allPending(t *testing.T, destinations map[string]string, want int) {
	t.Helper()
	for path, id := range destinations {
		if of := r.deliveries(t, id); len(of) != 1 || of[client.DeliveryPending] != want {
			t.Errorf("%s has deliveries %v, want %d waiting: it is no neighbour in trouble", path, of, want)
		}
	}
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

	alone := r.measure(t, afterAsking)
	for range crowd / 1000 {
		locked.register(1000, func() simulator.Plan { return simulator.Plan{} })
	}
	beside := r.measure(t, afterAsking)
	if open, _ := locked.books.open(time.Now()); open != crowd {
		t.Errorf("%d of %d watches of the credential that is locked out are open", open, crowd)
	}
	compare(t, fmt.Sprintf("registration to arrival, beside a credential that is locked out with %d operations", crowd), alone, beside, 0)
}

// An upstream answers late, and thousands of its operations are watched with many
// credentials: those of another upstream are noticed as before.
func TestAnUpstreamsNeighbours(t *testing.T) {
	alone(t)
	crowd := 1000
	if *long {
		crowd = 10_000
	}
	var asked atomic.Int64
	slow := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		select {
		case <-time.After(slowAnswer):
		case <-req.Context().Done():
			return
		}
		_, _ = io.WriteString(w, `{"status":"in_progress","conclusion":null}`)
	})
	settings := []string{"RELAY_UPSTREAM_URLS", "github=" + serve(t, slow)}
	if *long { // with each upstream's own limit: thousands of answers at once would take the processor
		settings = append(settings, "RELAY_POLL_EGRESS_BUDGET", "")
	}
	r := newRig(t, testenv.Postgres(t), testenv.Redis(t), 3, settings...)

	alone := r.measure(t, afterAsking)
	for range slowCredentials {
		r.watchRuns(t, crowd/slowCredentials)
	}
	beside := r.measure(t, afterAsking)
	if n := asked.Load(); n < slowCredentials {
		t.Errorf("the slow upstream was asked %d times, with %d credentials: it is no neighbour in trouble", n, slowCredentials)
	}
	compare(t, fmt.Sprintf("registration to arrival, beside an upstream that answers after %s, with %d operations", slowAnswer, crowd), alone, beside, 0)
}

const (
	// slowAnswer is how long the slow upstream takes: less than a poll's timeout.
	slowAnswer      = 10 * time.Second
	slowCredentials = 500
)

// watchRuns registers watches on workflow runs, with a credential of their own.
func (r *rig) watchRuns(t *testing.T, n int) {
	t.Helper()
	made, err := r.client.CreateCredentialWithResponse(t.Context(), nil, client.NewCredential{
		Name: "runs", Upstream: new("github"), APIToken: new(newID()),
	})
	if err != nil || made.JSON201 == nil {
		t.Fatalf("create a credential: %v %s", err, made.Body)
	}
	var request client.NewWatches
	for i := range n {
		request.Watches = append(request.Watches, client.NewWatch{
			Source: new("github.run"), OperationID: strconv.Itoa(i + 1), CredentialID: made.JSON201.ID, DestinationIds: []string{},
			Params: &client.Params{"owner": "octocat", "repo": "hello-world"},
		})
	}
	if answer, err := r.client.CreateWatchesWithResponse(t.Context(), nil, request); err != nil || answer.JSON201 == nil {
		t.Fatalf("register watches: %v %s", err, answer.Body)
	}
}

// A tenant registers watches by the thousand, has them watched, and, in the long form,
// all expire: another's are registered, noticed and told meanwhile. It registers and is
// polled as fast as the machine can, so that this is what all have to share.
func TestATenantsNeighbours(t *testing.T) {
	alone(t)
	crowd := 5000
	if *long {
		crowd = 100_000
	}
	r := newRig(t, testenv.Postgres(t), testenv.Redis(t), 3)
	other := r.tenant("busy")
	busy := other.newLoad()
	busy.timeout = 60 // seconds, the least that there is

	alone := r.measure(t, afterAsking)
	registered := make(chan struct{})
	go func() {
		defer close(registered)
		for range crowd / 1000 {
			busy.register(1000, func() simulator.Plan { return simulator.Plan{End: simulator.EndNever} })
		}
	}()
	beside := r.measure(t, afterAsking)
	<-registered
	compare(t, fmt.Sprintf("registration to arrival, while another tenant registers %d watches", crowd), alone, beside, goesOn)
	if !*long {
		return // a minute is too long
	}
	compare(t, fmt.Sprintf("registration to arrival, beside %d watches of another tenant", crowd), alone, r.measure(t, afterAsking), goesOn)
	other.awaitExpiry(t)
	told := r.receive.count("/another")
	compare(t, fmt.Sprintf("registration to arrival, while %d watches of another tenant expire", crowd), alone, r.measure(t, afterAsking), goesOn)
	if told = r.receive.count("/another") - told; told < crowd/100 {
		t.Errorf("only %d watches expired meanwhile", told)
	}
}

// awaitExpiry waits until the first of the tenant's watches has expired.
func (r *rig) awaitExpiry(t *testing.T) {
	t.Helper()
	look := time.NewTicker(again)
	defer look.Stop()
	for deadline := time.Now().Add(patience); ; <-look.C {
		page, err := r.client.ListWatchesWithResponse(t.Context(), &client.ListWatchesParams{
			Status: &[]client.WatchStatus{client.WatchStatusExpired}, Limit: new(1),
		})
		if err != nil {
			t.Fatal(err)
		}
		if page.JSON200 != nil && len(page.JSON200.Data) > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no watch has expired within %s", patience)
		}
	}
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

// deliveries is how many the destination has of each status.
func (r *rig) deliveries(t *testing.T, destination string) map[client.DeliveryStatus]int {
	t.Helper()
	of := map[client.DeliveryStatus]int{}
	for params := (&client.ListDeliveriesParams{DestinationID: &destination, Limit: new(200)}); ; {
		page, err := r.client.ListDeliveriesWithResponse(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		if page.JSON200 == nil {
			t.Fatalf("list deliveries: %s", page.Body)
		}
		for _, d := range page.JSON200.Data {
			of[d.Status]++
		}
		if params.Cursor = page.JSON200.NextCursor; params.Cursor == nil {
			return of
		}
	}
}
