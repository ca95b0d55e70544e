package source

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
		want   *Left
	}{
		{nil, nil},
		{[]string{`"default";r=50;t=30`}, &Left{50, 30 * time.Second}},
		{[]string{`"default";r=1199;t=1`}, &Left{1199, time.Second}},
		{[]string{`default;t=30;r=50;x="y"`}, &Left{50, 30 * time.Second}},
		{[]string{`"default";r=50`}, &Left{50, 0}},
		{[]string{`"default";r=0;t=300`}, &Left{0, 5 * time.Minute}},
		{[]string{`"burst";r=9;t=60, "daily";r=5;t=999999999`}, &Left{5, 24 * time.Hour}},
		{[]string{`"burst";r=5;t=60`, `"daily";r=9;t=10`}, &Left{5, time.Minute}},
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
		got := Quota{IETF: "Ratelimit"}.left(http.Header{"Ratelimit": test.values}, time.Time{})
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.values, diff)
		}
	}
}

// The longest of the waits that an answer asks for counts, however it spells them.
func TestRetryAfterInEachSpelling(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		headers []string
		want    time.Duration
	}{
		{[]string{"retry-after-ms", "1500"}, 1500 * time.Millisecond},
		{[]string{"x-ms-retry-after-ms", "250"}, 250 * time.Millisecond},
		{[]string{"x-poll-interval", "60"}, time.Minute},
		{[]string{"retry-after", "2", "retry-after-ms", "1500"}, 2 * time.Second},
		{[]string{"retry-after", "1", "x-poll-interval", "60", "x-ms-retry-after-ms", "90000"}, 90 * time.Second},
		{[]string{"retry-after-ms", "99999999999999999999"}, 24 * time.Hour},
		{[]string{"retry-after-ms", "-1", "x-poll-interval", "1m", "x-ms-retry-after-ms", "1e3"}, 0},
	} {
		h := http.Header{}
		for i := 0; i < len(test.headers); i += 2 {
			h.Set(test.headers[i], test.headers[i+1])
		}
		if got := retryAfter(h, now); got != test.want {
			t.Errorf("%v: got %v, want %v", test.headers, got, test.want)
		}
	}
}

func TestQuotaOfHeaders(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_767_323_045, 0)
	epoch := Quota{Remaining: "X-Left", ResetEpoch: "X-Reset"}
	seconds := Quota{Remaining: "X-Left", ResetSeconds: "X-Reset"}
	for _, test := range []struct {
		quota       Quota
		left, reset string
		want        *Left
	}{
		{epoch, "7", "1767323105", &Left{7, time.Minute}},
		{epoch, " 0 ", "1767323000", &Left{0, 0}},
		{epoch, "7", "9999999999", &Left{7, 24 * time.Hour}},
		{epoch, "7", "-9999999999999999999999", &Left{7, 0}},
		{epoch, "7", "soon", &Left{7, 0}},
		{epoch, "-1", "1767323105", nil},
		{epoch, "many", "1767323105", nil},
		{epoch, "", "1767323105", nil},
		{seconds, "7", "30", &Left{7, 30 * time.Second}},
		{seconds, "7", "99999999999999999999", &Left{7, 24 * time.Hour}},
		{seconds, "7", "1.5", &Left{7, 0}},
		{Quota{}, "7", "30", nil},
	} {
		got := test.quota.left(http.Header{"X-Left": {test.left}, "X-Reset": {test.reset}}, now)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%+v %q %q (-want +got):\n%s", test.quota, test.left, test.reset, diff)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add(`"default";r=50;t=30`, "7")
	f.Add(`"burst";r=9;t=60, "daily";r=5;t=9`, "Mon, 23 Nov 2026 10:01:30 GMT")
	f.Add("r=1199;t=1", "-1")
	f.Fuzz(func(t *testing.T, left, after string) {
		h := http.Header{"Ratelimit": {left}, "X-Reset": {after}, "Retry-After": {after}, "Retry-After-Ms": {after}}
		for _, quota := range []Quota{
			{IETF: "Ratelimit"}, {Remaining: "Ratelimit", ResetEpoch: "X-Reset"}, {Remaining: "Ratelimit", ResetSeconds: "X-Reset"},
		} {
			if q := quota.left(h, time.Unix(0, 0)); q != nil && (q.Remaining < 0 || q.Reset < 0 || q.Reset > longestWait) {
				t.Errorf("%q: %+v", left, *q)
			}
		}
		if d := retryAfter(h, time.Unix(0, 0)); d < 0 || d > longestWait {
			t.Errorf("%q: %v", after, d)
		}
	})
}
