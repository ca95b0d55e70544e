package notifier

import (
	"bytes"
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
