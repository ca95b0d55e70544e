package api_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Whoever has no key is told so before the body came, if it ever does.
func TestARefusalDoesNotWaitForTheBody(t *testing.T) {
	t.Parallel()
	address := strings.TrimPrefix(newRelay(t).url, "http://")
	for _, header := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
		connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		must(t, err)
		t.Cleanup(func() { _ = connection.Close() })
		must(t, connection.SetDeadline(time.Now().Add(time.Minute))) // reached only if it fails
		_, _ = fmt.Fprintf(connection, "POST /v1/watches HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n%s\r\n\r\n", header)
		answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			t.Fatalf("%s: %v", header, err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusUnauthorized || !answer.Close {
			t.Errorf("%s: %s, and the connection is kept: %t", header, answer.Status, !answer.Close)
		}
	}
}
