package cloudflare

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		"7":                              7 * time.Second,
		" 300 ":                          5 * time.Minute,
		"86400":                          24 * time.Hour,
		"86401":                          24 * time.Hour,
		"9223372036854775807":            24 * time.Hour,
		"99999999999999999999":           24 * time.Hour,
		"-5":                             0,
		"1.5":                            0,
		"soon":                           0,
		"Mon, 23 Nov 2026 10:01:30 GMT":  90 * time.Second,
		"Monday, 23-Nov-26 10:01:30 GMT": 90 * time.Second,
		"Mon, 23 Nov 2026 09:00:00 GMT":  0,
		"Tue, 23 Nov 2027 10:00:00 GMT":  24 * time.Hour,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values []string
		want   *Quota
	}{
		{nil, nil},
		{[]string{`"default";r=50;t=30`}, &Quota{50, 30 * time.Second}},
		{[]string{`"default";r=1199;t=1`}, &Quota{1199, time.Second}},
		{[]string{`default;t=30;r=50;x="y"`}, &Quota{50, 30 * time.Second}},
		{[]string{`"default";r=50`}, &Quota{50, 0}},
		{[]string{`"default";r=0;t=300`}, &Quota{0, 5 * time.Minute}},
		{[]string{`"burst";r=9;t=60, "daily";r=5;t=999999999`}, &Quota{5, 24 * time.Hour}},
		{[]string{`"burst";r=5;t=60`, `"daily";r=9;t=10`}, &Quota{5, time.Minute}},
		{[]string{`"burst";r=5;t=60, "daily"`}, nil},
		{[]string{""}, nil},
		{[]string{`r=1199;t=1`}, nil},
		{[]string{`"default";r=-1;t=1`}, nil},
		{[]string{`"default";r=1;t=-1`}, nil},
		{[]string{`"default";r=1;t="1"`}, nil},
		{[]string{`"default";r=1.5;t=1`}, nil},
		{[]string{`"default";r="50";t=1`}, nil},
		{[]string{`"default";t=1`}, nil},
		{[]string{`("default");r=1;t=1`}, nil},
		{[]string{`"default`}, nil},
		{[]string{"\xff"}, nil},
	} {
		got := quota(http.Header{"Ratelimit": test.values})
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.values, diff)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add(`"default";r=50;t=30`, "7")
	f.Add(`"burst";r=9;t=60, "daily";r=5;t=9`, "Mon, 23 Nov 2026 10:01:30 GMT")
	f.Add("r=1199;t=1", "-1")
	f.Fuzz(func(t *testing.T, ratelimit, after string) {
		h := http.Header{"Ratelimit": {ratelimit}, "Retry-After": {after}}
		if q := quota(h); q != nil && (q.Remaining < 0 || q.Reset < 0 || q.Reset > longestWait) {
			t.Errorf("%q: %+v", ratelimit, *q)
		}
		if d := retryAfter(h, time.Unix(0, 0)); d < 0 || d > longestWait {
			t.Errorf("%q: %v", after, d)
		}
	})
}
