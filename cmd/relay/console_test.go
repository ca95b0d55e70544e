package main

import (
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/deploy/testenv/browser"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/webhooktest"
)

// A page that is open shows how a watch moves, to its last delivery, without being loaded again.
func TestConsoleFollowsAWatch(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	operation := s.add(simulator.Plan{PendingFor: time.Hour})
	w := s.watch(t, client.NewWatch{OperationID: operation, CredentialID: s.credential(t, "token"), DestinationIds: []string{s.webhook(t)}})
	watch, home := browser.Open(t), browser.Open(t)
	s.signIn(t, watch, s.key, "/watches/"+w.ID)
	s.signIn(t, home, s.key, "/")
	tabs := []*browser.Tab{watch, home}
	for _, b := range tabs {
		browser.Value[any](b, "window.stayed = true, 0")
	}
	home.Await(`section[aria-labelledby=now] [data-watch-id="` + w.ID + `"]`)
	if err := s.upstream.Add(testAccount, operation, simulator.Plan{RunningFor: time.Hour}); err != nil {
		t.Fatal(err)
	}
	watch.AwaitText("dl.facts", "running")
	if err := s.upstream.Add(testAccount, operation, simulator.Plan{End: simulator.EndFailed, Error: "the list is full"}); err != nil {
		t.Fatal(err)
	}
	watch.Await(`article[data-watch-id="` + w.ID + `"][data-status=failed]`)
	watch.AwaitText(".timeline", "the list is full")
	watch.Await(".timeline .badge.succeeded")
	home.Await(`section[aria-labelledby=last] [data-watch-id="` + w.ID + `"][data-status=failed]`)
	for _, b := range tabs {
		if !browser.Value[bool](b, "window.stayed === true") {
			t.Error("the page was loaded again")
		}
	}
}

// Pages that are open show what becomes of deliveries and of their destinations, of which the stream tells nothing;
// and say so when the relay does not answer.
func TestConsoleFollowsDeliveries(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t), "RELAY_RETRY_SCHEDULE", "1h")
	destination := s.webhook(t)
	home, list, one := browser.Open(t), browser.Open(t), browser.Open(t)
	s.signIn(t, home, s.key, "/")
	s.signIn(t, list, s.key, "/destinations")
	s.signIn(t, one, s.key, "/destinations/"+destination)
	one.Click(`details:has(form[action="/destinations/` + destination + `/delete"]) summary`)
	s.receiver.Respond(webhooktest.Always(webhooktest.Answer{Status: http.StatusInternalServerError}))
	send := func() {
		t.Helper()
		if answer, err := s.api.TestDestinationWithResponse(t.Context(), destination, nil); err != nil || answer.JSON202 == nil {
			t.Fatalf("%v %+v", err, answer)
		}
	}
	send()
	list.AwaitText("tbody", "failing")
	one.AwaitText("h1", "failing")
	one.Await("tr[data-status=pending]")
	one.AwaitText("details.action[open]", "is canceled: 1 delivery")
	home.AwaitText(".needs", "failing")
	list.Visit(s.page("/destinations/" + destination))
	send()
	eventually(t, startLimit, "a form that is closed tells what it would do", func() bool {
		return strings.Contains(browser.Value[string](list, "document.querySelector('form[action$=\"/delete\"] p').textContent"), "2 deliveries")
	})

	browser.Value[any](one, "window.asks = window.fetch, window.fetch = () => Promise.reject(new Error('away')), 0")
	one.AwaitText("#stale", "the relay does not answer")
	browser.Value[any](one, "window.fetch = window.asks, 0")
	one.Await("main:has(#stale:empty)")
}

// People filter, test, disable and mend a destination, and redeliver, with scripts and without.
func TestConsoleActions(t *testing.T) {
	t.Parallel()
	for name, scripts := range map[string]bool{"with scripts": true, "without scripts": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startEmbedded(t, newSurroundings(t), "RELAY_RETRY_SCHEDULE", "100ms")
			s.receiver.Respond(webhooktest.Always(webhooktest.Answer{Status: http.StatusInternalServerError, Body: []byte("<b>out of order</b>")}))
			destination := s.webhook(t)
			w := s.watch(t, client.NewWatch{
				OperationID: s.add(simulator.Plan{}), CredentialID: s.credential(t, "token"), DestinationIds: []string{destination},
			})
			s.end(t, w.ID, startLimit)
			eventually(t, startLimit, "the delivery has failed", func() bool {
				return len(s.deliveries(t, client.ListDeliveriesParams{Status: new(client.DeliveryFailed)})) == 1
			})
			b := browser.Open(t)
			if !scripts {
				b.WithoutScripts()
			}
			s.signIn(t, b, s.key, "/deliveries?status=succeeded")
			checkActions(t, s, b, destination)
		})
	}
}

func checkActions(t *testing.T, s *system, b *browser.Tab, destination string) {
	t.Helper()
	if said := b.Text(".empty"); !strings.Contains(said, "No delivery matches") {
		t.Errorf("nothing has succeeded, but the list says %q", said)
	}
	b.Choose("select[name=status]", "failed")
	b.Follow(".filters button")
	if at := b.URL(); !strings.Contains(at, "status=failed") {
		t.Errorf("the filters are not in the URL: %s", at)
	}
	b.Follow("tbody a.row")
	b.Click(".attempts li:last-child summary")
	b.AwaitText(".attempts", "<b>out of order</b>")

	s.receiver.Respond(webhooktest.Always(webhooktest.Answer{}))
	b.Click("details.action summary")
	b.Follow("details.action[open] button")
	b.AwaitText(".notice", "on its way")
	s.reload(t, b, "article[data-status=succeeded]")

	b.Visit(s.page("/destinations/" + destination))
	act := func(action, confirmed string) {
		t.Helper()
		form := `details.action:has(form[action="/destinations/` + destination + action + `"])`
		b.Click(form + " summary")
		b.Follow(form + " form button")
		b.AwaitText("main", confirmed)
	}
	act("/disable", "The destination is disabled")
	b.AwaitText("article", "somebody disabled it")
	act("/test", "The test is on its way")
	b.Await("article[data-status=held]")
	b.Visit(s.page("/destinations/" + destination))
	b.AwaitText("dl", "Waiting\n1")
	act("/enable", "what waited goes out")
	s.reload(t, b, "tr[data-status=succeeded]")
	act("/rotate-secret", "never shown again")
	secret := b.Text("#secret")
	b.Follow("main p a")
	s.receiver.Trust(secret)
	act("/test", "The test is on its way")
	s.reload(t, b, "article[data-status=succeeded]")
	if arrivals := s.receiver.Arrivals(); arrivals[len(arrivals)-1].Err != nil {
		t.Errorf("what was sent last does not verify: %v", arrivals[len(arrivals)-1].Err)
	}
	b.Visit(s.page("/destinations/" + destination + "/recover"))
	b.AwaitText("main", "has accepted every message")
}

// reload loads the page again until it shows what is awaited: without scripts nothing moves.
func (s *system) reload(t *testing.T, b *browser.Tab, selector string) {
	t.Helper()
	here, _, _ := strings.Cut(b.URL(), "?")
	eventually(t, startLimit, selector+" at "+here, func() bool {
		b.Visit(here)
		return browser.Value[bool](b, "document.querySelector('"+selector+"') !== null")
	})
}

// Keys alone lead from signing in to a redelivery.
func TestConsoleByKeyboard(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	destination := s.webhook(t)
	credential := s.credential(t, "token")
	var last client.Watch
	for range 2 {
		last = s.watch(t, client.NewWatch{OperationID: s.add(simulator.Plan{}), CredentialID: credential, DestinationIds: []string{destination}})
		s.end(t, last.ID, startLimit)
	}
	_, err := s.receiver.Wait(t.Context(), webhooktest.Verified(2))
	if err != nil {
		t.Fatal(err)
	}
	focused := func(b *browser.Tab, what string) string {
		return browser.Value[string](b, "document.activeElement."+what+" ?? ''")
	}
	b := browser.Open(t)
	b.Visit(s.page("/login"))
	b.Await("#key:focus") // without a key or a click, but not before the page is drawn
	b.Press(s.key)
	b.FollowKey(browser.EnterKey)
	b.Press("?")
	b.Await("dialog[open]")
	b.Press(browser.EscapeKey)
	b.Press("/" + last.ID)
	b.FollowKey(browser.EnterKey)
	if at := b.URL(); at != s.page("/watches/"+last.ID) {
		t.Fatalf("the search leads to %s", at)
	}
	b.Press("g")
	b.FollowKey("d")
	b.Press("jj")
	second := focused(b, "href")
	b.Press("k")
	if first := focused(b, "href"); first == second || !strings.Contains(first, "/deliveries/delivery_") {
		t.Errorf("j and k move from %q to %q", second, first)
	}
	b.FollowKey(browser.EnterKey)
	b.Press(browser.TabKey)
	if skip := focused(b, "className"); skip != "skip" {
		t.Errorf("the first that has the focus is %q, want the link to the content", skip)
	}
	b.Press(browser.EnterKey)
	for range 20 {
		if focused(b, "tagName") == "SUMMARY" {
			break
		}
		b.Press(browser.TabKey)
	}
	b.Press(browser.EnterKey + browser.TabKey)
	if b.FollowKey(browser.EnterKey); !strings.Contains(b.Text(".notice"), "on its way") {
		t.Errorf("the keys lead to %s", b.URL())
	}
	if _, err := s.receiver.Wait(t.Context(), webhooktest.Verified(3)); err != nil {
		t.Error(err)
	}
}

// What a key's scope does not allow is not offered; what is made is shown once, and works.
func TestConsoleKeys(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	destination := s.webhook(t)
	admin, reader := browser.Open(t), browser.Open(t)
	s.signIn(t, admin, s.key, "/keys")
	admin.Click("details.action summary")
	admin.Type("input[name=name]", "eyes")
	admin.Choose("select[name=scope]", "read")
	if status := admin.Follow("details.action[open] button"); status != http.StatusCreated {
		t.Errorf("a new key: %d", status)
	}
	key := admin.Text("#secret")
	admin.Click("[data-copy=secret]")
	admin.AwaitText("[data-copy=secret]", "Cop")
	admin.Visit(s.page("/keys"))
	if strings.Contains(admin.Text("main"), key) {
		t.Error("the key is shown twice")
	}

	s.signIn(t, reader, key, "/destinations/"+destination)
	if offered := browser.Value[int](reader, "document.querySelectorAll('main form, main .button, nav a[href=\"/keys\"]').length"); offered != 0 {
		t.Errorf("%d actions are offered to who may only read", offered)
	}
	if status := reader.Visit(s.page("/keys")); status != http.StatusForbidden {
		t.Errorf("the keys, to who may only read: %d", status)
	}
	reader.Messages() // of the status

	const row = "tbody tr:first-child" // the newest
	admin.Click(row + " summary")
	admin.Follow(row + " form button")
	admin.AwaitText(".notice", "revoked")
	reader.Visit(s.page("/"))
	reader.AwaitText("h1", "Sign in")
}

// The command that a delivery's page shows sends what the relay sends.
func TestConsoleReplay(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "curl", "openssl")
	s := startEmbedded(t, newSurroundings(t))
	w := s.watch(t, client.NewWatch{
		OperationID:  s.add(simulator.Plan{End: simulator.EndFailed, Error: "it's 'quoted' \\ and $HOME"}),
		CredentialID: s.credential(t, "token"), DestinationIds: []string{s.webhook(t)},
	})
	if _, err := s.receiver.Wait(t.Context(), webhooktest.Verified(1)); err != nil {
		t.Fatal(err)
	}
	b := browser.Open(t)
	s.signIn(t, b, s.key, "/deliveries?watch_id="+w.ID)
	b.Follow("tbody a.row")
	command := browser.Value[string](b, "document.querySelector('#curl-replay').textContent")
	script := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(command, "whsec_...", testSecret, 1))
	script.Env = append(os.Environ(), "LC_ALL=C")
	if printed, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, command, printed)
	}
	arrivals := s.receiver.Arrivals()
	sent, again := arrivals[0], arrivals[len(arrivals)-1]
	if again.Err != nil || again.ID != sent.ID || !slices.Equal(again.Body, sent.Body) || len(arrivals) != 2 {
		t.Errorf("%d arrivals, the last %v\n%s\n%s", len(arrivals), again.Err, again.Body, sent.Body)
	}
}
