package source

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// longestWait bounds every duration that an upstream names, so that none parks an operation
// for a year or overflows.
const longestWait = 24 * time.Hour

// Left is what is left of a rate limit.
type Left struct {
	Remaining int           // requests
	Reset     time.Duration // when the limit starts anew, at most a day; 0 if not said
}

// retryAfter is the longest wait that the headers ask for, in any spelling: Retry-After in
// seconds or as a date (RFC 9110, section 10.2.3), retry-after-ms and x-ms-retry-after-ms
// (Azure), X-Poll-Interval (GitHub). It is 0 if there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	return max(
		secondsOrDate(h.Get("Retry-After"), now),
		count(h.Get("Retry-After-Ms"), time.Millisecond),
		count(h.Get("X-Ms-Retry-After-Ms"), time.Millisecond),
		count(h.Get("X-Poll-Interval"), time.Second),
	)
}

func secondsOrDate(value string, now time.Time) time.Duration {
	if value = strings.TrimSpace(value); strings.Trim(value, "0123456789") == "" {
		return count(value, time.Second)
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), longestWait)
}

// count reads a whole number of units, 0 if it is none.
func count(value string, unit time.Duration) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return 0
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n > int64(longestWait/unit) { // more digits than an int64 has
		return longestWait
	}
	return time.Duration(n) * unit
}

// left reads the headers that the definition names. It is nil if they say nothing readable.
func (q Quota) left(h http.Header, now time.Time) *Left {
	if q.IETF != "" {
		return structured(h.Values(q.IETF))
	}
	remaining, err := strconv.Atoi(strings.TrimSpace(h.Get(q.Remaining)))
	if q.Remaining == "" || err != nil || remaining < 0 {
		return nil
	}
	left := &Left{Remaining: remaining}
	if q.ResetSeconds != "" {
		left.Reset = count(h.Get(q.ResetSeconds), time.Second)
	}
	if epoch, err := strconv.ParseInt(strings.TrimSpace(h.Get(q.ResetEpoch)), 10, 64); q.ResetEpoch != "" && err == nil {
		left.Reset = min(max(time.Unix(epoch, 0).Sub(now), 0), longestWait)
	}
	return left
}

// structured reads a list of `"policy";r=REMAINING;t=SECONDS` and takes the entry with the
// least left. It is nil if any entry is malformed.
func structured(values []string) *Left {
	if len(values) == 0 {
		return nil
	}
	list, err := httpsfv.UnmarshalList(values)
	if err != nil {
		return nil
	}
	var least *Left
	for _, member := range list {
		entry, ok := leftOf(member)
		if !ok {
			return nil
		}
		if least == nil || entry.Remaining < least.Remaining {
			least = &entry
		}
	}
	return least
}

func leftOf(member httpsfv.Member) (Left, bool) {
	item, ok := member.(httpsfv.Item)
	if !ok {
		return Left{}, false
	}
	remaining, ok := parameter(item, "r")
	if !ok || remaining < 0 {
		return Left{}, false
	}
	if _, given := item.Params.Get("t"); !given {
		return Left{Remaining: int(remaining)}, true
	}
	reset, ok := parameter(item, "t")
	if !ok || reset < 0 {
		return Left{}, false
	}
	return Left{Remaining: int(remaining), Reset: time.Duration(min(reset, int64(longestWait/time.Second))) * time.Second}, true
}

func parameter(item httpsfv.Item, name string) (int64, bool) {
	value, _ := item.Params.Get(name)
	n, ok := value.(int64)
	return n, ok
}
