package cloudflare_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"oprelay/jobs/cloudflare"
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
			client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				defer close(done)
				w.Header().Set("Content-Encoding", encoding)
				for sent.Load() < huge {
					if _, err := w.Write(chunk); err != nil {
						return
					}
					sent.Add(int64(len(plain)))
				}
			})
			got := client.Poll(t.Context(), testToken(), account, operation)
			want := cloudflare.Answer{Outcome: cloudflare.Inconclusive, HTTPStatus: 200, Problem: "HTTP 200, body over 64 KiB"}
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
	echo := func(status int, format string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			secret := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") + r.Header.Get("X-Auth-Key")
			reply(status, fmt.Sprintf(format, secret))(w, r)
		}
	}
	notHTTP := func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = fmt.Fprintf(conn, "%s %s\r\n\r\n", r.Header.Get("Authorization"), r.Header.Get("X-Auth-Key"))
		_ = conn.Close()
	}
	for name, handler := range map[string]http.HandlerFunc{
		"error of a failed operation": echo(200, `{"success":true,"result":{"id":"`+operation+`","status":"failed","error":"denied: %s"}}`),
		"foreign id":                  echo(200, `{"success":true,"result":{"id":"%s","status":"failed"}}`),
		"envelope":                    echo(403, `{"success":false,"errors":[{"code":9109,"message":"no such token: %s"}]}`),
		"cut in the middle":           echo(403, `{"errors":[{"code":1,"message":"`+strings.Repeat("x", 285)+`%s"}]}`),
		"not HTTP":                    notHTTP,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, handler)
			for _, cred := range []cloudflare.Credential{testToken(), testPair()} {
				got := fmt.Sprintf("%+v", client.Poll(t.Context(), cred, account, operation))
				if strings.Contains(got, "-mark") {
					t.Error(got)
				}
			}
		})
	}
}

func TestPollCutsWhatTheUpstreamSays(t *testing.T) {
	t.Parallel()
	body := fmt.Sprintf(`{"success":true,"result":{"id":%q,"status":"failed","error":"ab\u0000%s"}}`,
		operation, strings.Repeat("é", 10_000)+"\xff")
	got := serve(t, reply(200, body)).Poll(t.Context(), testToken(), account, operation)
	if got.Outcome != cloudflare.Terminal || len(got.Error) > 4<<10 || len(got.Error) < 4<<10-4 ||
		!utf8.ValidString(got.Error) || !strings.HasPrefix(got.Error, "abé") || !strings.HasSuffix(got.Error, "é…") {
		t.Errorf("error of %d bytes: %.20q", len(got.Error), got.Error)
	}
	body = fmt.Sprintf(`{"errors":[{"message":"%s"}]}`, strings.Repeat(`\n é`, 1000))
	got = serve(t, reply(500, body)).Poll(t.Context(), testToken(), account, operation)
	if len(got.Problem) > 300 || strings.ContainsAny(got.Problem, "\n\r") || !utf8.ValidString(got.Problem) {
		t.Errorf("problem of %d bytes: %q", len(got.Problem), got.Problem)
	}
}
