package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// piped has the transport's connections served by serve, without any network, so that the clock can be a fake one.
func piped(t *testing.T, transport *http.Transport, serve func(net.Conn)) *http.Transport {
	t.Helper()
	var serving sync.WaitGroup
	transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		serving.Go(func() {
			serve(there)
			_ = there.Close()
		})
		return here, nil
	}
	t.Cleanup(func() { transport.CloseIdleConnections(); serving.Wait() })
	return transport
}

// answerAfter answers one request, its headers only after a while.
func answerAfter(pause time.Duration) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			<-time.After(pause)
			_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		}
	}
}

// send sends one request that may take so long as a whole.
func send(t *testing.T, transport *http.Transport, url string, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Nothing but the request's own time limits the answer, however long that time is; and what a connection may take
// grows and shrinks with it.
func TestLimitsFollowTheTimeout(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS() // for its certificate
	t.Cleanup(server.Close)
	for name, kind := range map[string]func(Dialing) *http.Transport{
		"operator": NewOperatorTransport, "untrusted": func(d Dialing) *http.Transport { return NewTransport(Policy{}, d) },
	} {
		for _, within := range []time.Duration{3 * time.Second, 15 * time.Second, 90 * time.Second, time.Hour} {
			t.Run(name+", "+within.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { testLimits(t, kind, within, server.TLS) })
			})
		}
	}
}

func testLimits(t *testing.T, kind func(Dialing) *http.Transport, within time.Duration, certificate *tls.Config) {
	t.Helper()
	to := func(serve func(net.Conn)) *http.Transport {
		transport := piped(t, kind(Dialing{Within: within}), serve)
		transport.TLSClientConfig.InsecureSkipVerify = true // the certificate is not what this is about
		return transport
	}
	if err := send(t, to(answerAfter(within-time.Second)), "http://receiver.example", within); err != nil {
		t.Errorf("an answer a second before: %v", err)
	}
	err := send(t, to(answerAfter(within+time.Second)), "http://receiver.example", within)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an answer a second after: %v", err)
	}
	shake := func(pause time.Duration) func(net.Conn) {
		return func(conn net.Conn) {
			<-time.After(pause)
			answerAfter(0)(tls.Server(conn, certificate))
		}
	}
	if err := send(t, to(shake(within/2)), "https://receiver.example", within); err != nil {
		t.Errorf("a handshake after half of the time: %v", err)
	}
	began := time.Now()
	err = send(t, to(shake(within)), "https://receiver.example", within)
	if took := time.Since(began); err == nil || took != within*2/3 {
		t.Errorf("no handshake: %v after %v", err, took)
	}
}

func TestConnectingFollowsTheTimeout(t *testing.T) {
	t.Parallel()
	for within, want := range map[time.Duration]time.Duration{
		0: 10 * time.Second, 3 * time.Second: 2 * time.Second, 15 * time.Second: 10 * time.Second, 90 * time.Second: time.Minute,
	} {
		if got := (Dialing{Within: within}).connecting(); got != want {
			t.Errorf("%v: %v, want %v", within, got, want)
		}
	}
}
