package source

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The request as bytes, per kind of credential. No body, no transfer-encoding,
// and nothing of one credential in the other's headers.
func TestRequestOnTheWire(t *testing.T) {
	t.Parallel()
	for name, cred := range map[string]Fields{
		"token": {APIToken: "TOKEN", Email: "ops@example.com", APIKey: "KEY"},
		"pair":  {Email: "ops@example.com", APIKey: "KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			sent := make(chan []byte, 1)
			go func() { sent <- serveOnce(listener) }()

			client := at(t, "cloudflare", "http://"+listener.Addr().String()+"/client/v4/", Config{Version: "1.2.3"})
			client.Poll(t.Context(), client.lists(cred))
			got := bytes.ReplaceAll(<-sent, []byte(listener.Addr().String()), []byte("api.cloudflare.com"))
			golden := "testdata/request-" + name + ".golden"
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// serveOnce takes one request, answers 404 and returns all that the client sent.
func serveOnce(listener net.Listener) []byte {
	conn, err := listener.Accept()
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }()
	var sent bytes.Buffer
	request, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, &sent)))
	if err != nil {
		return nil
	}
	_, _ = io.Copy(io.Discard, request.Body)
	_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	_, _ = io.Copy(&sent, conn) // until the client is gone: whatever came after the header
	return sent.Bytes()
}

func TestTransportIsHardened(t *testing.T) {
	t.Parallel()
	if NewClient(Config{}).transport.Proxy != nil {
		t.Error("a proxy from the environment would see the credentials")
	}
	for version, reached := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.Config.ErrorLog = nil
			server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version}
			server.EnableHTTP2 = true
			server.StartTLS()
			t.Cleanup(server.Close)
			client := at(t, "cloudflare", server.URL, Config{})
			client.transport.TLSClientConfig.RootCAs = x509.NewCertPool()
			client.transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
			got := client.Poll(t.Context(), client.lists(testToken()))
			if (got.HTTPStatus == http.StatusNotFound) != reached {
				t.Errorf("got %+v", got)
			}
			if !reached && !strings.Contains(got.Detail, "protocol version") {
				t.Errorf("refused for another reason: %s", got.Problem)
			}
		})
	}
}
