package source

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
)

const (
	account   = "023e105f4ecef8ad9ca31a8372d0c353"
	operation = "4da8780eeb215e6cb7f48dd981c4ea02"
)

// stand is a server that stands in for an upstream, and a client that asks it.
type stand struct {
	*Client

	set *Set
}

// serve stands in for the upstream of a source.
func serve(t *testing.T, upstream string, handler http.HandlerFunc) stand {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return at(t, upstream, server.URL, Config{Version: "1.2.3"})
}

// at is a client of an upstream that is at a base.
func at(t *testing.T, upstream, base string, config Config) stand {
	t.Helper()
	set, err := Load(nil, map[string]string{upstream: base})
	if err != nil {
		t.Fatal(err)
	}
	client := NewClient(config)
	t.Cleanup(client.Close)
	return stand{client, set}
}

// lists is a poll of a Cloudflare Lists operation.
func (s stand) lists(cred Fields) Poll {
	return Poll{
		Source: s.set.Source("cloudflare.lists"), Credential: Credential{Fields: cred},
		Params: map[string]string{"account_id": account}, OperationID: operation,
	}
}

func testToken() Fields { return Fields{APIToken: "token-marker-1234567890"} }

func testPair() Fields { return Fields{Email: "ops@example.com", APIKey: "key-marker-1234567890"} }

// reply answers everything with the same.
func reply(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
