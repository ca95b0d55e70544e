package notifier_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"testing"
	"time"

	"oprelay/notifier"
)

// endless writes the chunk again and again until the sender has had enough.
func endless(w io.Writer, chunk []byte) {
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// bomb is 16 MiB of zeros in 16 KiB. Members of gzip may follow each other, so an endless row of bombs is one.
func bomb(t *testing.T) []byte {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(make([]byte, 16<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func TestBodies(t *testing.T) {
	t.Parallel()
	explosive := bomb(t)
	tests := []struct {
		name    string
		handler http.HandlerFunc
		length  int
	}{
		{"empty", func(http.ResponseWriter, *http.Request) {}, 0},
		{"short", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "thanks") }, 6},
		{"exactly 4 KiB", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 4096)) }, 4096},
		{"longer", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 4097)) }, 4096},
		{"endless", func(w http.ResponseWriter, _ *http.Request) { endless(w, make([]byte, 64<<10)) }, 4096},
		{"gzip", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, "thanks")
			_ = z.Close()
		}, 6},
		{"gzip bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			endless(w, explosive)
		}, 4096},
		{"not gzip at all", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, "plain")
		}, 0},
		{"truncated", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "thanks")
		}, 6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			outcome, err := send(t, serve(t, tt.handler), nil)
			if err != nil || outcome.StatusCode != http.StatusOK || len(outcome.Body) != tt.length {
				t.Errorf("got %d, %d bytes, %v", outcome.StatusCode, len(outcome.Body), err)
			}
		})
	}
}

//nolint:paralleltest // it measures the memory of the whole process
func TestEndlessBodiesCostNoMemory(t *testing.T) {
	explosive := bomb(t)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		endless(w, explosive)
	}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const sends, allowed = 20, 1 << 20
	for range sends {
		if _, err := send(t, url, nil); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / sends; each > allowed { // on both ends
		t.Errorf("each send allocated %d bytes", each)
	}
}

func TestDeadlineCoversTheBody(t *testing.T) {
	t.Parallel()
	hanging := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		status  int
	}{
		{"no answer", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the sender left
			<-r.Context().Done()
		}, 0},
		{"no end of the body", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			hanging(w, r)
		}, http.StatusOK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			to := notifier.Webhook{URL: serve(t, tt.handler), Secrets: []string{testSecret}}
			outcome, err := newClient(t, nil).SendWebhook(ctx, to, testMessage())
			failure := failureOf(t, err)
			if failure.Kind != notifier.Passing || !errors.Is(err, context.DeadlineExceeded) || outcome.StatusCode != tt.status {
				t.Errorf("got %d, %v", outcome.StatusCode, err)
			}
		})
	}
}
