package notifier

import (
	"net/http"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	tests := []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"120", 2 * time.Minute},
		{" 120 ", 2 * time.Minute},
		{"86400", 24 * time.Hour},
		{"86401", 24 * time.Hour},
		{"9223372037", 24 * time.Hour}, // overflows a Duration
		{"99999999999999999999999999", 24 * time.Hour},
		{"-5", 0},
		{"+5", 0},
		{"1.5", 0},
		{"1e9", 0},
		{"soon", 0},
		{"Mon, 23 Nov 2026 10:05:00 GMT", 5 * time.Minute},
		{"Monday, 23-Nov-26 10:05:00 GMT", 5 * time.Minute},
		{"Mon Nov 23 10:05:00 2026", 5 * time.Minute},
		{"Mon, 23 Nov 2026 09:00:00 GMT", 0},
		{"Fri, 31 Dec 9999 23:59:59 GMT", 24 * time.Hour},
		{"Sat, 01 Jan 0000 00:00:00 GMT", 0},
	}
	for _, tt := range tests {
		header := http.Header{"Retry-After": {tt.value}}
		if got := retryAfter(http.StatusServiceUnavailable, header, now); got != tt.want {
			t.Errorf("%q: got %v, want %v", tt.value, got, tt.want)
		}
		if got := retryAfter(http.StatusInternalServerError, header, now); got != 0 {
			t.Errorf("%q with 500: got %v, want 0", tt.value, got)
		}
	}
}
