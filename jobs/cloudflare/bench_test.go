package cloudflare_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"oprelay/jobs/cloudflare"
)

// BenchmarkPoll is one poll over loopback, the server's share included.
func BenchmarkPoll(b *testing.B) {
	body := []byte(`{"success":true,"errors":[],"messages":[],"result":{"id":"` + operation + `","status":"running"}}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Ratelimit", `"default";r=50;t=30`)
		_, _ = w.Write(body)
	}))
	b.Cleanup(server.Close)
	client := cloudflare.New(cloudflare.Config{BaseURL: server.URL})
	b.Cleanup(client.Close)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if got := client.Poll(b.Context(), testToken(), account, operation); got.Outcome != cloudflare.InProgress {
				b.Errorf("got %+v", got)
				return
			}
		}
	})
}
