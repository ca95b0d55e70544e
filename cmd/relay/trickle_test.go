package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// A client that sends a byte now and then does not hold its connection: who has no
// key is answered before the body, and headers have a time in which to arrive.
func TestClientsThatTrickle(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	for name, c := range map[string]struct {
		begin  string
		status int // 0 for a connection that is closed
	}{
		"headers": {"GET /healthz HTTP/1.1\r\nHost: relay\r\nX-Slow: ", 0},
		"a body without a key": {
			"POST /v1/watches HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n",
			http.StatusUnauthorized,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.server.address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(conn, c.begin)
			go func() {
				tick := time.NewTicker(lookEvery)
				defer tick.Stop()
				for err := error(nil); err == nil; _, err = io.WriteString(conn, "a") {
					<-tick.C
				}
			}()
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if c.status == 0 {
				if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the connection is still open: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != c.status {
				t.Errorf("%d, want %d", answer.StatusCode, c.status)
			}
		})
	}
}
