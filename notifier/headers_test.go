package notifier

import (
	"fmt"
	"strings"
	"testing"
)

func TestCheckHeaders(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, value string
		want        string // part of the fault; empty = accepted
	}{
		{"Authorization", "Bearer abc", ""},
		{"X-Team", "a\tb", ""},
		{"X-Empty", "", ""},
		{"Cookie", "a=b", ""},
		{"webhook-id", "x", "webhook-"},
		{"WEBHOOK-SIGNATURE", "x", "webhook-"},
		{"Webhook-Anything", "x", "webhook-"},
		{"Content-Type", "x", "content-"},
		{"content-length", "1", "content-"},
		{"Content-Encoding", "gzip", "content-"},
		{"Host", "x", "set by the relay"},
		{"User-Agent", "x", "set by the relay"},
		{"traceparent", "x", "set by the relay"},
		{"Connection", "close", "set by the relay"},
		{"Keep-Alive", "x", "set by the relay"},
		{"Proxy-Authorization", "x", "proxy-"},
		{"Proxy", "http://x", "set by the relay"},
		{"webhook_id", "x", "webhook-"},
		{"Webhook.Signature", "x", "webhook-"},
		{"CONTENT_LENGTH", "1", "content-"},
		{"Transfer_Encoding", "chunked", "set by the relay"},
		{"user|agent", "x", "set by the relay"},
		{"TE", "trailers", "set by the relay"},
		{"Trailer", "x", "set by the relay"},
		{"Transfer-Encoding", "chunked", "set by the relay"},
		{"Upgrade", "h2c", "set by the relay"},
		{"Expect", "100-continue", "set by the relay"},
		{"Accept-Encoding", "br", "set by the relay"},
		{"Idempotency-Key", "x", "set by the relay"},
		{":authority", "x", "no name may begin"},
		{"", "x", "not a valid header name"},
		{"X Y", "x", "not a valid header name"},
		{"X:", "x", "not a valid header name"},
		{"X\r\nY", "x", "not a valid header name"},
		{"Ü", "x", "not a valid header name"},
		{strings.Repeat("x", 257), "x", "longer than 256"},
		{"X-A", "SECRET\r\nY: z", "line break"},
		{"X-A", "SECRET\n", "line break"},
		{"X-A", "SECRET\x00", "printable ASCII"},
		{"X-A", "SECRETü", "printable ASCII"},
		{"X-A", strings.Repeat("SECRET", 1000), "longer than 4096"},
	}
	for _, tt := range tests {
		faults := CheckHeaders(map[string]string{tt.name: tt.value})
		switch {
		case tt.want == "" && len(faults) > 0:
			t.Errorf("%q was refused: %v", tt.name, faults)
		case tt.want != "" && (len(faults) != 1 || faults[0].Name != tt.name || !strings.Contains(faults[0].Detail, tt.want)):
			t.Errorf("%q: got %v, want a fault with %q", tt.name, faults, tt.want)
		case strings.Contains(fmt.Sprint(faults), "SECRET"):
			t.Errorf("%q: the fault quotes the value: %v", tt.name, faults)
		}
	}
}

func TestCheckHeadersTogether(t *testing.T) {
	t.Parallel()
	faults := CheckHeaders(map[string]string{"X-Key": "a", "x-key": "b", "Host": "c", "webhook-id": "d"})
	names := make([]string, 0, len(faults))
	for _, f := range faults {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "Host webhook-id x-key" {
		t.Errorf("got faults of %q", got)
	}
	faults = CheckHeaders(map[string]string{"X-Key": "a", "X_Key": "b"})
	if len(faults) != 1 || faults[0].Name != "X_Key" || !strings.Contains(faults[0].Detail, `"X-Key"`) {
		t.Errorf("the same name in two spellings: got %v", faults)
	}
	many := make(map[string]string)
	for i := range maxHeaders + 1 {
		many[fmt.Sprintf("X-%02d", i)] = "v"
	}
	if faults := CheckHeaders(many); len(faults) != 1 || faults[0].Name != "X-32" {
		t.Errorf("one header too many: got %v", faults)
	}
}
