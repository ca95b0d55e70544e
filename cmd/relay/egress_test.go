package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"oprelay/api/client"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/slacktest"
	"oprelay/notifier/webhooktest"
)

// counting is a server's port on every address of this machine, and how many connections have come to it.
func counting(t *testing.T) (port string, reached *atomic.Int64) {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	reached = new(atomic.Int64)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			_ = conn.Close()
		}
	}()
	_, port, _ = net.SplitHostPort(listener.Addr().String())
	return port, reached
}

// By default no destination can be inside, however its address is written.
func TestDestinationsInsideAreRefused(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t), "RELAY_EGRESS_ALLOW", "")
	port, reached := counting(t)
	public := s.destination(t, client.NewDestination{Type: client.DestinationWebhook, URL: new("https://93.184.215.14/")})
	for _, host := range []string{
		"127.0.0.1", "localhost", "localhost.", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1", "127.1", "ⓛocalhost",
		"127.0.0.1.", "user@127.0.0.1", "%6cocalhost", "[::1%25lo]", "10.0.0.1", "169.254.169.254", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
	} {
		url := "http://" + host + ":" + port + "/"
		for _, d := range []client.NewDestination{
			{Type: client.DestinationWebhook, Name: "inside", URL: &url}, {Type: client.DestinationSlack, Name: "inside", WebhookURL: &url},
		} {
			made, err := s.api.CreateDestinationWithResponse(t.Context(), nil, d)
			want(t, http.StatusUnprocessableEntity, err, made)
			pointer := map[bool]string{true: `"/url"`, false: `"/webhook_url"`}[d.URL != nil]
			mention(t, string(made.Body), pointer)
		}
		changed, err := s.api.UpdateDestinationWithResponse(t.Context(), public, client.DestinationPatch{URL: &url})
		want(t, http.StatusUnprocessableEntity, err, changed)
	}
	s.server.Stop()
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// What was allowed when it was registered is held against the policy of today at every send.
func TestDestinationsOfYesterdayAreRefusedToday(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	destinations := []string{
		s.webhook(t),
		s.destination(t, client.NewDestination{Type: client.DestinationSlack, WebhookURL: new(s.slackURL + slacktest.WebhookPath)}),
	}
	s.server.Stop()
	s.env = s.env.with("RELAY_EGRESS_ALLOW", "10.0.0.0/8")
	s.restart()
	for _, destination := range destinations {
		sent, err := s.api.TestDestinationWithResponse(t.Context(), destination, nil)
		want(t, http.StatusAccepted, err, sent)
		eventually(t, startLimit, "an attempt is recorded", func() bool {
			got, err := s.api.GetDeliveryWithResponse(t.Context(), sent.JSON202.ID)
			want(t, http.StatusOK, err, got)
			attempts := got.JSON200.Attempts
			if attempts == nil || len(*attempts) == 0 {
				return false
			}
			if a := (*attempts)[0]; a.StatusCode != nil || a.Error == nil || !strings.Contains(*a.Error, "not at a public address (loopback)") {
				t.Errorf("the attempt is recorded as %s", pretty(a))
			}
			return true
		})
	}
	s.server.Stop()
	if len(s.receiver.Arrivals()) != 0 || s.slack.Requests() != 0 {
		t.Errorf("%d webhooks and %d Slack messages arrived", len(s.receiver.Arrivals()), s.slack.Requests())
	}
}

// outerAddress is an IPv4 address of this machine that is not loopback's: what is there never goes through a proxy.
// Without a network it is loopback's all the same.
func outerAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr().String()
		}
	}
	return "127.0.0.1"
}

// serveAt is serve at an address of this machine.
func serveAt(t *testing.T, address string, handler http.Handler) string {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// No proxy of the environment gets to see anything: neither a credential, nor a token, nor a message.
func TestNoProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	around := newSurroundings(t)
	port, reached := counting(t)
	address := outerAddress(t)
	around.upstreamURL, around.slackURL = serveAt(t, address, around.upstream), serveAt(t, address, around.slack)
	around.receiverURL = serveAt(t, address, around.receiver)
	settings := []string{"RELAY_EGRESS_ALLOW", address + "/32"}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		settings = append(settings, name, "http://127.0.0.1:"+port)
	}
	s := startEmbedded(t, around, settings...)
	bot := s.destination(t, client.NewDestination{Type: client.DestinationSlack, BotToken: new(testBot), Channel: new("C0DEPLOYS")})
	hook := s.destination(t, client.NewDestination{Type: client.DestinationSlack, WebhookURL: new(s.slackURL + slacktest.WebhookPath)})
	s.watch(t, client.NewWatch{
		OperationID: s.add(simulator.Plan{}), CredentialID: s.credential(t, "token"), DestinationIds: []string{s.webhook(t), bot, hook},
	})
	if _, err := s.receiver.Wait(deadline(t, startLimit), webhooktest.Verified(1)); err != nil {
		t.Error(err)
	}
	ended := func(messages []slacktest.Message) bool {
		return len(messages) == 2 && says(messages[0], "completed") && says(messages[1], "completed")
	}
	if messages, err := s.slack.Wait(deadline(t, startLimit), ended); err != nil {
		t.Errorf("%v; Slack has %s", err, pretty(messages))
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections went to the proxy", n)
	}
}

// A receiver that sends more than an answer puts nothing into the relay's log, least of all what it was sent.
func TestReceiversCannotWriteToTheLog(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	echo := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\nUNASKED "+r.Header.Get("Authorization"))
		_, _ = io.Copy(io.Discard, conn) // until the relay has hung up
	}))
	destination := s.destination(t, client.NewDestination{
		Type: client.DestinationWebhook, URL: &echo, Headers: &client.Headers{"Authorization": "Bearer pa55word"},
	})
	sent, err := s.api.TestDestinationWithResponse(t.Context(), destination, nil)
	want(t, http.StatusAccepted, err, sent)
	eventually(t, startLimit, "the delivery is accepted", func() bool {
		got, err := s.api.GetDeliveryWithResponse(t.Context(), sent.JSON202.ID)
		want(t, http.StatusOK, err, got)
		return got.JSON200.Status == "succeeded"
	})
	s.server.Stop()
	if log := s.server.Stderr.String(); strings.Contains(log, "UNASKED") || strings.Contains(log, "pa55word") {
		t.Errorf("the receiver has written into the log:\n%s", log)
	}
}
