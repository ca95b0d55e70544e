package notifier

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// BenchmarkSignatures signs a body of the size that operations make.
func BenchmarkSignatures(b *testing.B) {
	b.ReportAllocs()
	secrets, body, at := []string{NewSecret()}, bytes.Repeat([]byte("x"), 500), time.Now()
	for b.Loop() {
		if _, err := signatures(secrets, "evt_01h455vb4pex5vsknk084sn02q", at, body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRenderSlack renders the message about an operation that has failed.
func BenchmarkRenderSlack(b *testing.B) {
	b.ReportAllocs()
	started := time.Now()
	facts := Facts{
		Type: "operation.failed", Status: "failed", WatchID: "watch_01h455vb4pex5vsknk084sn02q", Source: "cloudflare.lists",
		Params: map[string]string{"account_id": strings.Repeat("a", 32)}, OperationID: strings.Repeat("b", 32),
		Error: "This list is at the maximum number of items", StartedAt: started, EndedAt: started.Add(time.Minute), Polls: 7,
		Metadata: map[string]string{"deploy": "42", "pipeline": "edge-configuration"}, Link: "https://relay.example.com/watches/1",
	}
	for b.Loop() {
		if got := renderSlack(facts); len(got.blocks) == 0 {
			b.Fatal("it is empty")
		}
	}
}
