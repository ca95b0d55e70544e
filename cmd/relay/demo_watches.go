package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"oprelay/api/client"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/slacktest"
	"oprelay/notifier/webhooktest"
	"oprelay/storage"
)

const (
	demoAccount   = "023e105f4ecef8ad9ca31a8372d0c353"
	demoRunSource = "github.run"
	demoRun       = "30433642"
)

// scenario is one operation that the demo watches.
type scenario struct {
	title   string
	story   string          // what the upstream does
	plan    *simulator.Plan // at Cloudflare; nil for the run at GitHub
	ends    string          // the watch's status at its end
	timeout time.Duration   // of the watch; 0 is the default
	flaky   bool            // the receiver that refuses twice is told too
	channel string          // of Slack, which shows it from its beginning; "" for none

	operationID string
	watchID     string
}

func scenarios() []*scenario {
	return []*scenario{
		{
			title: "block networks", story: "completes after 4 s", ends: "completed", flaky: true, channel: "C0SECURITY",
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
		{
			title: "mistyped id", story: "is unknown upstream (404)", ends: "unobservable",
			plan: &simulator.Plan{Misbehaviour: simulator.Misbehaviour{Name: "not_found"}},
		},
		{title: "website deploy", story: "is a GitHub run of 5 s", ends: "completed", channel: "C0WEBSITE"},
	}
}

// demo is a relay, what stands around it, and the watches that it is to end.
type demo struct {
	*standIns

	relay     *process
	api       *client.ClientWithResponses
	key       string
	scenarios []*scenario
	began     time.Time
}

// setUpDemo makes the key, the credential, the destinations and the operations,
// and registers the watches.
func setUpDemo(ctx context.Context, relay *process, others *standIns) (*demo, error) {
	d := &demo{standIns: others, relay: relay, scenarios: scenarios(), began: time.Now()}
	tenant, key, err := createKey(ctx, relay.store, defaultTenant, "demo", storage.ScopeAdmin)
	if err != nil {
		return nil, err
	}
	d.key = string(key)
	if d.api, err = client.NewClientWithResponses("http://"+relay.addr, client.WithAPIKey(d.key)); err != nil {
		return nil, err
	}
	return d, d.register(ctx, tenant.ID)
}

func (d *demo) register(ctx context.Context, tenantID string) error {
	credentials := map[string]string{}
	for _, upstream := range []string{defaultUpstream, "github"} {
		credential, err := d.api.CreateCredentialWithResponse(ctx, nil, client.NewCredential{
			Name: upstream, Upstream: &upstream, APIToken: new("a-demo-token"),
		})
		if err != nil || credential.JSON201 == nil {
			return refused("register the credential for "+upstream, err, credential)
		}
		credentials[upstream] = credential.JSON201.ID
	}
	steady, err := d.destination(ctx, client.NewDestination{Type: "webhook", Name: "deploy pipeline", URL: new(d.url + "/steady")})
	if err != nil {
		return err
	}
	d.steady.Trust(*steady.Secret)
	flaky, err := d.destination(ctx, client.NewDestination{Type: "webhook", Name: "flaky receiver", URL: new(d.url + "/flaky")})
	if err != nil {
		return err
	}
	d.flaky.Trust(*flaky.Secret)
	for _, s := range d.scenarios {
		destinations := []string{steady.ID}
		if s.flaky {
			destinations = append(destinations, flaky.ID)
		}
		if s.channel != "" {
			channel, err := d.destination(ctx, client.NewDestination{
				Type: "slack", Name: s.channel, BotToken: new(demoToken), Channel: &s.channel,
			})
			if err != nil {
				return err
			}
			destinations = append(destinations, channel.ID)
		}
		if s.plan == nil {
			err = d.watchRun(ctx, s, credentials["github"], destinations)
		} else {
			err = d.watch(ctx, s, tenantID, credentials[defaultUpstream], destinations)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) destination(ctx context.Context, wanted client.NewDestination) (*client.Destination, error) {
	answer, err := d.api.CreateDestinationWithResponse(ctx, nil, wanted)
	if err != nil || answer.JSON201 == nil {
		return nil, refused("register the destination "+wanted.Name, err, answer)
	}
	return answer.JSON201, nil
}

// newDemoOperation is the id of an operation. One that is not added is known upstream as well, and takes 20 s.
func newDemoOperation() string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// invitation is to the commands, with a watch that has ended and an operation that nobody watches yet.
func (d *demo) invitation() invitation {
	return invitation{"http://" + d.relay.addr, d.key, d.scenarios[0].watchID, newDemoOperation()}
}

// watch makes the operation known upstream and registers a watch for it: through the
// API, except where the watch is to expire within seconds. The API grants a minute at least.
func (d *demo) watch(ctx context.Context, s *scenario, tenantID, credentialID string, destinations []string) error {
	s.operationID = newDemoOperation()
	if err := d.upstream.Add(demoAccount, s.operationID, *s.plan); err != nil {
		return err
	}
	metadata := client.Metadata{"what": s.title}
	if s.timeout > 0 {
		made, err := d.relay.store.CreateWatches(ctx, []storage.NewWatch{{
			TenantID: tenantID, Source: "cloudflare.lists", Upstream: defaultUpstream,
			Params: map[string]string{storage.ParamAccountID: demoAccount}, OperationID: s.operationID, CredentialID: credentialID,
			DestinationIDs: destinations, Events: []string{storage.EventOperationExpired}, Timeout: s.timeout, Metadata: metadata, Name: s.title,
		}})
		if err == nil {
			s.watchID = made[0].ID
		}
		return err
	}
	return d.post(ctx, s, client.NewWatch{
		AccountID: new(demoAccount), OperationID: s.operationID, CredentialID: credentialID,
		DestinationIds: destinations, Metadata: &metadata, Name: &s.title,
	})
}

// watchRun registers a watch for the run, which GitHub's stand-in knows from when it is first asked.
func (d *demo) watchRun(ctx context.Context, s *scenario, credentialID string, destinations []string) error {
	s.operationID = demoRun
	return d.post(ctx, s, client.NewWatch{
		Source: new(demoRunSource), Params: &client.Params{"owner": "octocat", "repo": "hello-world"}, OperationID: demoRun,
		CredentialID: credentialID, DestinationIds: destinations, Metadata: &client.Metadata{"what": s.title}, Name: &s.title,
	})
}

// post registers the watch of a scenario through the API.
func (d *demo) post(ctx context.Context, s *scenario, wanted client.NewWatch) error {
	answer, err := d.api.CreateWatchWithResponse(ctx, nil, wanted)
	if err != nil || answer.JSON201 == nil {
		return refused("register the watch "+s.title, err, answer)
	}
	s.watchID = answer.JSON201.ID
	return nil
}

func refused(what string, err error, answer interface{ Status() string }) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: the API answered %s", what, answer.Status())
}

// follow shows how the watches go on until everything has arrived or demoLimit is
// over; what is missing then is found by checks.
func (d *demo) follow(ctx context.Context, v *demoView) error {
	limit, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	tick := time.NewTicker(demoInterval)
	defer tick.Stop()
	for {
		rows, err := d.rows(ctx)
		if err != nil {
			return err
		}
		v.show(time.Since(d.began), rows)
		if failures(d.checks()) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			return ctx.Err()
		}
	}
}

// row is how far one scenario is.
type row struct {
	title    string
	watch    string // its status
	polls    int
	upstream string // the operation's status, as last seen
	webhook  string // what the steady receiver has
	flaky    string // what the flaky receiver has
	slack    string
}

func (d *demo) rows(ctx context.Context) ([]row, error) {
	rows := make([]row, len(d.scenarios))
	for i, s := range d.scenarios {
		answer, err := d.api.GetWatchWithResponse(ctx, s.watchID, nil)
		if err != nil || answer.JSON200 == nil {
			return nil, refused("look at the watch "+s.title, err, answer)
		}
		w := answer.JSON200
		rows[i] = row{
			title: s.title, watch: string(w.Status), polls: w.Polls, upstream: "-",
			webhook: received(arrivals(d.steady, s.watchID)), flaky: received(arrivals(d.flaky, s.watchID)), slack: "-",
		}
		if w.Operation.Status != nil {
			rows[i].upstream = string(*w.Operation.Status)
		}
		if m, ok := d.slackMessage(s); ok {
			rows[i].slack = "posted"
			if edits := len(m.History); edits > 0 {
				rows[i].slack = fmt.Sprintf("edited %dx", edits)
			}
		}
	}
	return rows, nil
}

// received sums up what a receiver got.
func received(got []webhooktest.Arrival) string {
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
	return fmt.Sprintf("refused %dx", refusals)
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
func (d *demo) slackMessage(s *scenario) (slacktest.Message, bool) {
	for _, m := range d.slack.Messages() {
		if strings.Contains(string(m.Blocks), s.operationID) {
			return m, true
		}
	}
	return slacktest.Message{}, false
}

// check is one thing that the demo promised.
type check struct {
	what string
	held bool
}

// failures counts the checks that did not hold.
func failures(checks []check) (n int) {
	for _, c := range checks {
		if !c.held {
			n++
		}
	}
	return n
}

// checks hold what arrived against what was promised. They ask the receivers and
// Slack, not the relay.
func (d *demo) checks() (checks []check) {
	add := func(held bool, format string, args ...any) {
		checks = append(checks, check{fmt.Sprintf(format, args...), held})
	}
	slack := 0
	for _, s := range d.scenarios {
		got := arrivals(d.steady, s.watchID)
		var body webhookBody
		held := len(got) == 1 && got[0].Err == nil && json.Unmarshal(got[0].Body, &body) == nil && body.Type == "operation."+s.ends
		add(held, "%s: one webhook, operation.%s%s, signature verified", s.title, s.ends, body.reason())
		if s.flaky {
			add(refusedTwice(arrivals(d.flaky, s.watchID)),
				"%s: the flaky receiver refused it twice and accepted the same event at the third attempt", s.title)
		}
		if s.channel != "" {
			slack++
			m, ok := d.slackMessage(s)
			add(ok && len(m.History) > 0 && strings.Contains(strings.ToLower(m.Text), s.ends),
				"%s: one Slack message, updated in place until it says %q", s.title, s.ends)
		}
	}
	add(len(d.slack.Messages()) == slack, "Slack has %d messages and no other", slack)
	add(len(d.steady.Arrivals()) == len(d.scenarios), "the steady receiver got %d webhooks and no other", len(d.scenarios))
	return checks
}

// reason is why the operation failed, or was not seen to end.
func (b webhookBody) reason() string {
	switch {
	case b.Data.Operation.Error != "":
		return fmt.Sprintf(" (%q)", b.Data.Operation.Error)
	case b.Data.Reason != "":
		return " (" + b.Data.Reason + ")"
	}
	return ""
}

// refusedTwice is true for three attempts of one event with the same bytes, all
// verified, of which the last was accepted.
func refusedTwice(got []webhooktest.Arrival) bool {
	if len(got) != 3 || got[0].Status < 300 || got[1].Status < 300 || got[2].Status >= 300 {
		return false
	}
	for _, a := range got {
		if a.Err != nil || a.ID != got[0].ID || string(a.Body) != string(got[0].Body) {
			return false
		}
	}
	return true
}
