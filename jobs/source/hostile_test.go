package source

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"
)

// Bodies of 10 GB, plain and compressed a thousandfold, cost the relay no more
// than its limit: it hangs up long before the server has sent them.
func TestPollHangsUpOnHugeBodies(t *testing.T) {
	t.Parallel()
	const huge = 10 << 30
	plain := bytes.Repeat([]byte(" "), 1<<20)
	var squeezed bytes.Buffer
	compressor := gzip.NewWriter(&squeezed)
	if _, err := compressor.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := compressor.Close(); err != nil {
		t.Fatal(err)
	}
	for encoding, chunk := range map[string][]byte{"identity": plain, "gzip": squeezed.Bytes()} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			done := make(chan struct{})
			client := serve(t, "cloudflare", func(w http.ResponseWriter, _ *http.Request) {
				defer close(done)
				w.Header().Set("Content-Encoding", encoding)
				for sent.Load() < huge {
					if _, err := w.Write(chunk); err != nil {
						return
					}
					sent.Add(int64(len(plain)))
				}
			})
			got := client.Poll(t.Context(), client.lists(testToken()))
			want := Answer{Verdict: Inconclusive, Rule: -1, HTTPStatus: 200, Requests: 1, Problem: "HTTP 200, the body is too long"}
			if got != want {
				t.Errorf("got %+v", got)
			}
			<-done
			if sent.Load() >= huge {
				t.Error("all of it was read")
			}
		})
	}
}

// An upstream that echoes what it was sent must not carry a secret into what the
// relay stores, shows and sends on.
func TestPollKeepsSecretsOutOfItsAnswer(t *testing.T) {
	t.Parallel()
	for name, cred := range map[string]Fields{
		"token":          {APIToken: "Kx3-_dPq8mZt5vYw2nRb7cHj4gLs9fTa6uEe1oQi"},
		"short token":    {APIToken: "Kx3_dP"},
		"pair":           {Email: "Jo.Doe+lists@Example.com", APIKey: "1234567893feefc5f0q5000bfo0c38d90bbeb"},
		"one in another": {Email: "jodoe@example.com", APIKey: "jodoe@example.com/key"},
		"quoted":         {APIToken: `"Kx3\dPq8&mZt<é>`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for place, handler := range echoes() {
				client := serve(t, "cloudflare", handler)
				answer := client.Poll(t.Context(), client.lists(cred))
				got := strings.ToLower(fmt.Sprintf("%+v", answer))
				for _, secret := range []string{cred.APIToken, cred.APIKey, cred.Email} {
					for _, half := range []string{secret[:len(secret)/2], secret[len(secret)/2:]} {
						if half != "" && strings.Contains(got, strings.ToLower(half)) {
							t.Errorf("%s: %q is in %s", place, half, got)
						}
					}
				}
				if !strings.Contains(got, "[redacted]") && place != "cut in the middle" && place != "foreign id" {
					t.Errorf("%s: nothing was echoed in %s", place, got)
				}
			}
		})
	}
}

// echoes are upstreams that send the credential back, by where they do it.
func echoes() map[string]http.HandlerFunc {
	echo := func(status int, format string, write func(string) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			quoted, _ := json.Marshal(write(sent(r)))
			reply(status, fmt.Sprintf(format, quoted[1:len(quoted)-1]))(w, r)
		}
	}
	plain := func(s string) string { return s }
	failed := `{"success":true,"result":{"id":"` + operation + `","status":"failed","error":%s}}`
	inError := fmt.Sprintf(failed, `"denied: %s"`)
	return map[string]http.HandlerFunc{
		"error of a failed operation": echo(200, inError, plain),
		"error that is an object":     echo(200, fmt.Sprintf(failed, `{"denied":"%s"}`), plain),
		"in lower case":               echo(200, inError, strings.ToLower),
		"in upper case":               echo(200, inError, strings.ToUpper),
		"in a query":                  echo(200, inError, url.QueryEscape),
		"with NUL between":            echo(200, inError, func(s string) string { return s[:3] + "\x00" + s[3:] }),
		"foreign id":                  echo(200, `{"success":true,"result":{"id":"%s","status":"failed"}}`, plain),
		"status":                      echo(200, `{"success":true,"result":{"id":"`+operation+`","status":"%s"}}`, plain),
		"envelope":                    echo(403, `{"success":false,"errors":[{"code":9109,"message":"no such token: %s"}]}`, plain),
		"chain of errors":             echo(400, `{"errors":[{"code":6003,"error_chain":[{"code":6111,"message":"%s"}]}]}`, plain),
		"cut in the middle":           echo(403, `{"errors":[{"code":1,"message":"`+strings.Repeat("x", 285)+`%s"}]}`, plain),
		"not HTTP": func(w http.ResponseWriter, r *http.Request) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_, _ = fmt.Fprintf(conn, "%s\r\n\r\n", sent(r))
				_ = conn.Close()
			}
		},
	}
}

// sent is the credential of a request.
func sent(r *http.Request) string {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return token
	}
	return r.Header.Get("X-Auth-Key") + " " + r.Header.Get("X-Auth-Email")
}

func TestPollCutsWhatTheUpstreamSays(t *testing.T) {
	t.Parallel()
	body := fmt.Sprintf(`{"success":true,"result":{"id":%q,"status":"failed","error":"ab\u0000%s"}}`,
		operation, strings.Repeat("é", 10_000)+"\xff")
	client := serve(t, "cloudflare", reply(200, body))
	got := client.Poll(t.Context(), client.lists(testToken()))
	if got.Verdict != Failed || len(got.Error) > 4<<10 || len(got.Error) < 4<<10-4 ||
		!utf8.ValidString(got.Error) || !strings.HasPrefix(got.Error, "abé") || !strings.HasSuffix(got.Error, "é…") {
		t.Errorf("error of %d bytes: %.20q", len(got.Error), got.Error)
	}
	body = fmt.Sprintf(`{"errors":[{"message":"%s"}]}`, strings.Repeat(`\n é`, 1000))
	client = serve(t, "cloudflare", reply(500, body))
	got = client.Poll(t.Context(), client.lists(testToken()))
	if len(got.Problem) > 300 || strings.ContainsAny(got.Problem, "\n\r") || !utf8.ValidString(got.Problem) {
		t.Errorf("problem of %d bytes: %q", len(got.Problem), got.Problem)
	}
}
