package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"oprelay/api/client"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/slacktest"
	"oprelay/notifier/webhooktest"
	"oprelay/storage"
)

const demoAccount = "023e105f4ecef8ad9ca31a8372d0c353"

// scene is one operation that the demo watches.
type scene struct {
	title   string
	story   string // what the upstream does
	plan    *simulator.Plan
	ends    string        // the watch's status at its end
	timeout time.Duration // of the watch; 0 is the default
	flaky   bool          // told to the receiver that refuses twice
	channel string        // of Slack, that shows it from its beginning; "" for none

	operationID string
	watchID     string
}

func scenes() []*scene {
	return []*scene{
		{
			title: "block addresses", story: "completes after 4 s", ends: "completed", flaky: true, channel: "C0SECURITY",
			plan: &simulator.Plan{PendingFor: time.Second, RunningFor: 3 * time.Second},
		},
		{
			title: "import items", story: "fails after 3 s", ends: "failed", channel: "C0DEPLOYS",
			plan: &simulator.Plan{PendingFor: time.Second, RunningFor: 2 * time.Second, End: simulator.EndFailed},
		},
		{
			title: "endless import", story: "never ends; its watch has 7 s", ends: "expired", timeout: 7 * time.Second,
			plan: &simulator.Plan{PendingFor: time.Second, End: simulator.EndNever},
		},
		{title: "mistyped id", story: "is unknown upstream (404)", ends: "unobservable"},
	}
}

// play is the demo's course: the watches and everything they are to lead to.
type play struct {
	*stage
	relay   *process
	api     *client.ClientWithResponses
	key     string
	scenes  []*scene
	flakyID string
	began   time.Time
}

// rehearse makes the key, the credential, the destinations and the operations,
// and registers the watches.
func rehearse(ctx context.Context, relay *process, set *stage) (*play, error) {
	p := &play{stage: set, relay: relay, scenes: scenes(), began: time.Now()}
	tenant, key, err := createKey(ctx, relay.store, defaultTenant, "demo", storage.ScopeAdmin)
	if err != nil {
		return nil, err
	}
	p.key = string(key)
	p.api, err = client.NewClientWithResponses("http://"+relay.addr, client.WithRequestEditorFn(
		func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+p.key)
			return nil
		}))
	if err != nil {
		return nil, err
	}
	return p, p.register(ctx, tenant.ID)
}

func (p *play) register(ctx context.Context, tenantID string) error {
	credential, err := p.api.CreateCredentialWithResponse(ctx, nil, client.NewCredential{Name: "demo", APIToken: new("a-demo-token")})
	if err != nil || credential.JSON201 == nil {
		return refused("the credential", err, credential)
	}
	steady, err := p.destination(ctx, client.NewDestination{Type: "webhook", Name: "deploy pipeline", URL: &p.steadyURL})
	if err != nil {
		return err
	}
	p.steady.Trust(*steady.Secret)
	flaky, err := p.destination(ctx, client.NewDestination{Type: "webhook", Name: "flaky receiver", URL: &p.flakyURL})
	if err != nil {
		return err
	}
	p.flaky.Trust(*flaky.Secret)
	p.flakyID = flaky.ID
	for _, s := range p.scenes {
		destinations := []string{steady.ID}
		if s.flaky {
			destinations = append(destinations, flaky.ID)
		}
		if s.channel != "" {
			channel, err := p.destination(ctx, client.NewDestination{
				Type: "slack", Name: s.channel, BotToken: new(demoToken), Channel: &s.channel,
			})
			if err != nil {
				return err
			}
			destinations = append(destinations, channel.ID)
		}
		if err := p.watch(ctx, s, tenantID, credential.JSON201.ID, destinations); err != nil {
			return err
		}
	}
	return nil
}

func (p *play) destination(ctx context.Context, d client.NewDestination) (*client.Destination, error) {
	answer, err := p.api.CreateDestinationWithResponse(ctx, nil, d)
	if err != nil || answer.JSON201 == nil {
		return nil, refused("the destination "+d.Name, err, answer)
	}
	return answer.JSON201, nil
}

// watch makes the operation known upstream and registers a watch for it: over the
// API, but for the scene that has to expire while somebody looks on. The shortest
// timeout that the API grants is a minute.
func (p *play) watch(
	ctx context.Context, s *scene, tenantID, credentialID string, destinations []string,
) error {
	var id [16]byte
	_, _ = rand.Read(id[:])
	s.operationID = hex.EncodeToString(id[:])
	if s.plan != nil {
		if err := p.upstream.Add(demoAccount, s.operationID, *s.plan); err != nil {
			return err
		}
	}
	metadata := client.Metadata{"what": s.title}
	if s.timeout > 0 {
		made, err := p.relay.store.CreateWatches(ctx, []storage.NewWatch{{
			TenantID: tenantID, AccountID: demoAccount, OperationID: s.operationID, CredentialID: credentialID,
			DestinationIDs: destinations, Events: []string{storage.EventOperationExpired}, Timeout: s.timeout, Metadata: metadata,
		}})
		if err == nil {
			s.watchID = made[0].ID
		}
		return err
	}
	answer, err := p.api.CreateWatchWithResponse(ctx, nil, client.NewWatch{
		AccountID: demoAccount, OperationID: s.operationID, CredentialID: credentialID,
		DestinationIds: destinations, Metadata: &metadata,
	})
	if err != nil || answer.JSON201 == nil {
		return refused("the watch "+s.title, err, answer)
	}
	s.watchID = answer.JSON201.ID
	return nil
}

func refused(what string, err error, answer interface{ Status() string }) error {
	if err != nil {
		return fmt.Errorf("register %s: %w", what, err)
	}
	return fmt.Errorf("register %s: the API answered %s", what, answer.Status())
}

// run shows how the watches go on until everything has arrived or demoLimit is
// over; what is missing then is in the report.
func (p *play) run(ctx context.Context, v *view) error {
	limit, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	tick := time.NewTicker(demoLook)
	defer tick.Stop()
	for {
		rows, err := p.look(ctx)
		if err != nil {
			return err
		}
		v.show(time.Since(p.began), rows)
		if p.report().good() {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			return ctx.Err()
		}
	}
}

// row is how far one scene is.
type row struct {
	*scene
	status  string // the watch's
	seen    string // the operation's, as last seen
	polls   int
	webhook string // what the pipeline has
	flaky   string // what the flaky receiver has
	slack   string
}

func (p *play) look(ctx context.Context) ([]row, error) {
	rows := make([]row, len(p.scenes))
	for i, s := range p.scenes {
		answer, err := p.api.GetWatchWithResponse(ctx, s.watchID, nil)
		if err != nil || answer.JSON200 == nil {
			return nil, refused("(look at) the watch "+s.title, err, answer)
		}
		w := answer.JSON200
		rows[i] = row{scene: s, status: string(w.Status), polls: w.Polls, webhook: "-", flaky: "-", slack: "-"}
		if w.Operation.Status != nil {
			rows[i].seen = string(*w.Operation.Status)
		}
		if got := arrivals(p.steady, s.watchID); len(got) > 0 {
			rows[i].webhook = told(got)
		}
		if s.flaky {
			rows[i].flaky = told(arrivals(p.flaky, s.watchID))
		}
		if m, ok := p.slackMessage(s); ok {
			rows[i].slack = "posted"
			if edits := len(m.History); edits > 0 {
				rows[i].slack = fmt.Sprintf("updated %d×", edits)
			}
		}
	}
	return rows, nil
}

// told says how far a receiver was told.
func told(got []webhooktest.Arrival) string {
	refusals := 0
	for _, a := range got {
		if a.Status < 300 && a.Err == nil {
			return "verified"
		}
		refusals++
	}
	if refusals == 0 {
		return "-"
	}
	return fmt.Sprintf("refused %d×", refusals)
}

// arrivals are what a receiver got about a watch.
func arrivals(r *webhooktest.Receiver, watchID string) []webhooktest.Arrival {
	var about []webhooktest.Arrival
	for _, a := range r.Arrivals() {
		var body webhookBody
		if json.Unmarshal(a.Body, &body) == nil && body.Data.WatchID == watchID {
			about = append(about, a)
		}
	}
	return about
}

// webhookBody is the part of a webhook's body that the demo looks at.
type webhookBody struct {
	Type string `json:"type"`
	Data struct {
		WatchID   string `json:"watch_id"`
		Reason    string `json:"reason"`
		Operation struct {
			Error string `json:"error"`
		} `json:"operation"`
	} `json:"data"`
}

// slackMessage is the message about a scene.
func (p *play) slackMessage(s *scene) (slacktest.Message, bool) {
	for _, m := range p.slack.Messages() {
		if strings.Contains(string(m.Blocks), s.operationID) {
			return m, true
		}
	}
	return slacktest.Message{}, false
}
