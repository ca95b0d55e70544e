package source

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"oprelay/deploy/testenv"
)

// Why there was no whole answer is told in words of our own: Go's name addresses of
// the relay's network, which are for its log.
func TestPollSaysNothingOfTheRelaysNetwork(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	secure.Config.ErrorLog = nil
	t.Cleanup(secure.Close)
	const cut = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n"
	for name, test := range map[string]struct {
		url      string
		problems []string // one of them
	}{
		"refused": {"http://" + testenv.Refused(t, "tcp"), []string{"no answer: connection refused"}},
		"no such name": {
			"http://relay.invalid", []string{"no answer: the API's host name does not exist", "no answer: the API's host name could not be resolved"},
		},
		"closed at once":      {wire(t, "", false), []string{"no answer: the connection was closed too early", "no answer: connection reset by peer"}},
		"reset":               {wire(t, "", true), []string{"no answer: connection reset by peer"}},
		"not HTTP":            {wire(t, "SSH-2.0-OpenSSH_9.9\r\n", false), []string{"no answer: it is not valid HTTP"}},
		"looks like another":  {wire(t, "127.0.0.1 \"tls: \r\n\r\n", false), []string{"no answer: it is not valid HTTP"}},
		"headers without end": {wire(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 128<<10), false), []string{"no answer: it is not valid HTTP"}},
		"body cut":            {wire(t, cut+"\r\n{", false), []string{"HTTP 200, body cut short: the connection was closed too early"}},
		"body not compressed": {wire(t, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n"+strings.Repeat(" ", 20), false), []string{"HTTP 200, body cut short: its compression is broken"}},
		"unknown certificate": {secure.URL, []string{"no answer: the API's TLS certificate could not be verified"}},
		"no TLS":              {strings.Replace(wire(t, "HTTP/1.1 200 OK\r\n\r\n", false), "http:", "https:", 1), []string{"no answer: the TLS handshake failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := at(t, "cloudflare", test.url, Config{})
			t.Cleanup(client.Close)
			got := client.Poll(t.Context(), client.lists(testToken()))
			if got.Verdict != Inconclusive || !slices.Contains(test.problems, got.Problem) {
				t.Errorf("%s: %q, want one of %q", got.Verdict, got.Problem, test.problems)
			}
			if got.Detail == "" || got.Detail == got.Problem {
				t.Errorf("detail %q", got.Detail)
			}
		})
	}
}

// wire is the URL of a server that reads some of a request, sends what it is told to,
// and closes or resets the connection.
func wire(t *testing.T, answer string, reset bool) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 64<<10))
			_, _ = fmt.Fprint(conn, answer)
			if tcp, ok := conn.(*net.TCPConn); ok && reset {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		}
	}()
	return "http://" + listener.Addr().String()
}
