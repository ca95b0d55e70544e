package cloudflare

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// longestWait bounds every duration that an upstream names, so that none parks
// an operation for a year or overflows.
const longestWait = 24 * time.Hour

// retryAfter reads Retry-After (RFC 9110, section 10.2.3): seconds or a date.
// It is 0 if absent, malformed or in the past.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return longestWait // more digits than an int64 has
		}
		return wait(seconds)
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), longestWait)
}

// quota reads Ratelimit (the IETF draft's structured field, a list of
// `"policy";r=REMAINING;t=SECONDS`) and takes the entry with the least left.
// It is nil if the header is missing or any entry is malformed.
func quota(h http.Header) *Quota {
	values := h.Values("Ratelimit")
	if len(values) == 0 {
		return nil
	}
	list, err := httpsfv.UnmarshalList(values)
	if err != nil {
		return nil
	}
	var least *Quota
	for _, member := range list {
		entry, ok := quotaOf(member)
		if !ok {
			return nil
		}
		if least == nil || entry.Remaining < least.Remaining {
			least = &entry
		}
	}
	return least
}

func quotaOf(member httpsfv.Member) (Quota, bool) {
	item, ok := member.(httpsfv.Item)
	if !ok {
		return Quota{}, false
	}
	remaining, ok := parameter(item, "r")
	if !ok || remaining < 0 {
		return Quota{}, false
	}
	if _, given := item.Params.Get("t"); !given {
		return Quota{Remaining: int(remaining)}, true
	}
	reset, ok := parameter(item, "t")
	if !ok || reset < 0 {
		return Quota{}, false
	}
	return Quota{Remaining: int(remaining), Reset: wait(reset)}, true
}

func parameter(item httpsfv.Item, name string) (int64, bool) {
	value, _ := item.Params.Get(name)
	n, ok := value.(int64)
	return n, ok
}

func wait(seconds int64) time.Duration {
	return time.Duration(min(seconds, int64(longestWait/time.Second))) * time.Second
}
