package api_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"oprelay/api"
	"oprelay/api/ratelimit"
	"oprelay/deploy/testenv"
	"oprelay/jobs/wake"
)

// BenchmarkLimits shows what the limits cost: each request is made with none,
// and with both, counted in the process and in a Redis server.
func BenchmarkLimits(b *testing.B) {
	rates := api.Limits{Key: ratelimit.Rate{N: 1 << 20, Per: time.Second}, WrongKeys: ratelimit.Rate{N: 120, Per: time.Minute}}
	for _, where := range []string{"none", "process", "server"} {
		for _, request := range []string{"read", "register"} {
			b.Run(request+"/"+where, func(b *testing.B) {
				var changes []func(*api.Config)
				switch where {
				case "process":
					changes = append(changes, limited(rates))
				case "server":
					client, err := wake.Open(testenv.Redis(b))
					must(b, err)
					b.Cleanup(func() { _ = client.Close() })
					counter := ratelimit.New(client, slog.New(slog.DiscardHandler), time.Now)
					changes = append(changes, limited(rates), func(c *api.Config) { c.Limits.Counter = counter })
				}
				benchmarkRequest(b, request, changes...)
			})
		}
	}
}

func benchmarkRequest(b *testing.B, request string, changes ...func(*api.Config)) {
	b.Helper()
	r := newRelay(b, changes...)
	credentialID, destinationID := r.credential(r.write), r.webhook(r.write)
	method, path, body := http.MethodGet, "/v1/watches/"+r.watch(r.write, credentialID, destinationID), ""
	if request == "register" {
		method, path, body = http.MethodPost, "/v1/watches", watchBody(credentialID, destinationID)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	b.Cleanup(transport.CloseIdleConnections)
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			made, err := http.NewRequestWithContext(b.Context(), method, r.url+path, strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			made.Header.Set("Authorization", "Bearer "+r.write)
			made.Header.Set("Content-Type", "application/json")
			answer, err := transport.RoundTrip(made)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			if answer.StatusCode >= http.StatusBadRequest {
				b.Errorf("status %d", answer.StatusCode)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
