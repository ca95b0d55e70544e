package storage

import (
	"strings"
	"testing"
	"time"
)

// BenchmarkRenderBody renders the event of an operation that has failed.
func BenchmarkRenderBody(b *testing.B) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 123456000, time.UTC)
	data := operationEventData{
		WatchID: "watch_01h455vb4pex5vsknk084sn02q",
		Operation: operationBody(Operation{
			Source: SourceCloudflareLists, AccountID: strings.Repeat("a", 32), ID: strings.Repeat("b", 32),
			Status: OperationFailed, Error: "This list is at the maximum number of items", CompletedAt: at,
		}),
		ObservedAt: at, Polls: 7, Metadata: map[string]string{"deploy": "42", "pipeline": "edge-configuration"},
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := renderBody(EventOperationFailed, at, data); err != nil {
			b.Fatal(err)
		}
	}
}
