package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv/browser"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/jobs/source"
	anysource "oprelay/jobs/source/simulator"
)

// markup is text from outside that would run if a page took it for HTML.
const markup = `"><img src=x onerror=alert(1)><script>alert(2)</script> a long line of an upstream's own that goes on and on`

// desk is a relay in which much has happened, for people to look at.
type desk struct {
	*system

	// Ids of what there is.
	good, broken, gone       string // destinations
	refused                  string // credential
	watching, failed, ended  string // watches
	run                      string // watch of another source
	delivered, undeliverable string // deliveries
}

// newDesk runs a relay until everything that a page can show has happened.
func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{system: startEmbedded(t, newSurroundings(t),
		"RELAY_RETRY_SCHEDULE", "100ms,100ms", "RELAY_UPSTREAM_URLS", "github="+serve(t, failingRuns(t)))}
	answering := func(name string, status int, header ...string) string {
		url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			http.Error(w, markup, status)
		}))
		return d.destinationNamed(t, name, client.NewDestination{Type: client.DestinationWebhook, URL: &url})
	}
	d.good = d.destinationNamed(t, "deploys", client.NewDestination{
		Type: client.DestinationWebhook, URL: &d.receiverURL, Secret: new(testSecret), Headers: &client.Headers{"X-Team": "edge"},
	})
	d.broken = answering(markup[:40], http.StatusInternalServerError)
	d.gone = answering("former service", http.StatusGone)
	busy := answering("busy service", http.StatusServiceUnavailable, "Retry-After", "3600")
	channel := "C0123456789"
	slack := d.destinationNamed(t, "#releases", client.NewDestination{Type: client.DestinationSlack, BotToken: new(testBot), Channel: &channel})

	credential := d.credential(t, "token")
	d.spoil("refused", simulator.Misbehaviour{Name: "refusal"})
	d.refused = d.credential(t, "refused")
	watch := func(name string, plan simulator.Plan, with string, to ...string) string {
		return d.watch(t, client.NewWatch{
			OperationID: d.add(plan), CredentialID: with, DestinationIds: append([]string{}, to...), Name: &name,
			Metadata: &client.Metadata{"deploy": "42", "note": markup, strings.Repeat("k", 60): "long"},
		}).ID
	}
	d.ended = watch("Block abusive networks", simulator.Plan{}, credential, d.good, slack)
	d.failed = watch(markup, simulator.Plan{End: simulator.EndFailed, Error: markup}, credential, d.good, d.broken, d.gone, busy)
	unobservable := watch("With a key that is refused", simulator.Plan{}, d.refused, d.good)
	d.watching = watch("Import of 10,000 items", simulator.Plan{RunningFor: time.Hour}, credential, d.good, slack)
	canceled := watch("A mistake", simulator.Plan{RunningFor: time.Hour}, credential)
	if done, err := d.api.CancelWatchWithResponse(t.Context(), canceled); err != nil || done.StatusCode() != http.StatusOK {
		t.Fatalf("cancel: %v %v", err, done)
	}
	d.run = d.watchRun(t)
	for _, id := range []string{d.ended, d.failed, unobservable, d.run} {
		d.end(t, id, startLimit)
	}
	eventually(t, startLimit, "every delivery has come to rest", func() bool {
		d.delivered, d.undeliverable = "", ""
		for _, delivery := range d.deliveries(t, client.ListDeliveriesParams{}) {
			switch {
			case delivery.DestinationID == d.good && delivery.Status == client.DeliverySucceeded:
				d.delivered = delivery.ID
			case delivery.DestinationID == d.broken && delivery.Status == client.DeliveryFailed:
				d.undeliverable = delivery.ID
			case delivery.DestinationID != busy && delivery.Status == client.DeliveryPending:
				return false
			}
		}
		return d.delivered != "" && d.undeliverable != ""
	})
	return d
}

// failingRuns stands in for GitHub, where every run fails.
func failingRuns(t *testing.T) http.Handler {
	t.Helper()
	set, err := source.Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	runs, err := anysource.New(anysource.Config{Source: set.Source("github.run"), End: "failed"})
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

// watchRun watches a run of GitHub's.
func (d *desk) watchRun(t *testing.T) string {
	t.Helper()
	credential, err := d.api.CreateCredentialWithResponse(t.Context(), nil, client.NewCredential{
		Name: "ci", Upstream: new("github"), APIToken: new("token"),
	})
	want(t, http.StatusCreated, err, credential)
	made, err := d.api.CreateWatchWithResponse(t.Context(), nil, client.NewWatch{
		Source: new("github.run"), Params: &client.Params{"owner": "octocat", "repo": "hello-world"}, OperationID: "30433642",
		CredentialID: credential.JSON201.ID, DestinationIds: []string{d.good}, Name: new("Deploy of the website"),
	})
	want(t, http.StatusCreated, err, made)
	return made.JSON201.ID
}

func (s *system) destinationNamed(t *testing.T, name string, d client.NewDestination) string {
	t.Helper()
	d.Name = name
	made, err := s.api.CreateDestinationWithResponse(t.Context(), nil, d)
	want(t, http.StatusCreated, err, made)
	return made.JSON201.ID
}

// signIn opens a tab of a browser that is signed in with the key, at the path.
func (s *system) signIn(t *testing.T, b *browser.Tab, key, path string) {
	t.Helper()
	b.Visit(s.page(path))
	if !strings.Contains(b.Text("h1"), "Sign in") {
		t.Fatalf("without a session %s shows %q", path, b.Text("h1"))
	}
	b.Type("#key", key)
	if status := b.Follow("main form button"); status != http.StatusOK {
		t.Fatalf("signing in leads to %d", status)
	}
	if at := b.URL(); at != s.page(path) {
		t.Errorf("signing in leads to %s, want %s", at, path)
	}
}

// page is the address of a page.
func (s *system) page(path string) string { return "http://" + s.server.address + path }
