package source

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkPoll is one poll over loopback, the server's share included.
func BenchmarkPoll(b *testing.B) {
	body := []byte(`{"success":true,"errors":[],"messages":[],"result":{"id":"` + operation + `","status":"running"}}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Ratelimit", `"default";r=50;t=30`)
		_, _ = w.Write(body)
	}))
	b.Cleanup(server.Close)
	s := loaded(b, map[string]string{"cloudflare": server.URL})
	client := NewClient(Config{})
	b.Cleanup(client.Close)
	poll := Poll{
		Source: s.Source("cloudflare.lists"), Credential: Credential{Fields: testToken()},
		Params: map[string]string{"account_id": account}, OperationID: operation,
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if got := client.Poll(b.Context(), poll); got.Verdict != Running {
				b.Errorf("got %+v", got)
				return
			}
		}
	})
}

// BenchmarkRead reads a poll's answer, without the HTTP around it.
func BenchmarkRead(b *testing.B) {
	s := loaded(b, nil).Source("cloudflare.lists")
	for verdict, result := range map[Verdict]string{
		Running: `{"id":"4da8","status":"running"}`,
		Failed:  `{"id":"4da8","status":"failed","completed":"2020-01-01T08:00:00Z","error":"This list is at the maximum number of items"}`,
	} {
		r := Response{Status: http.StatusOK, Body: []byte(`{"success":true,"errors":[],"messages":[],"result":` + result + `}`)}
		b.Run(string(verdict), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := s.Read("4da8", r); got.Verdict != verdict {
					b.Fatalf("got %+v", got)
				}
			}
		})
	}
}

func loaded(tb testing.TB, bases map[string]string) *Set {
	tb.Helper()
	s, err := Load(nil, bases)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
