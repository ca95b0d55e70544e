package simulator

import (
	"cmp"
	"fmt"
	"net/http"
	"time"
)

// Limit locks a credential out: once it has made Requests within Window, the
// next one and all others of that credential are answered 429 during Block.
// Zero fields are Cloudflare's: 1,200 in 5 minutes, then 5 minutes. A negative
// Requests is no limit, and no ratelimit headers.
type Limit struct {
	Requests      int
	Window, Block time.Duration
}

type limiter struct {
	limit       Limit
	credentials map[string]*spending
}

// spending is what one credential did lately, oldest first.
type spending struct {
	times       []time.Time
	lockedUntil time.Time
}

// quota is what a credential has left.
type quota struct {
	limit     Limit
	remaining int
	reset     time.Duration
	lockedFor time.Duration
}

func newLimiter(limit Limit) *limiter {
	return &limiter{
		limit: Limit{
			Requests: cmp.Or(limit.Requests, 1200),
			Window:   cmp.Or(limit.Window, 5*time.Minute),
			Block:    cmp.Or(limit.Block, 5*time.Minute),
		},
		credentials: make(map[string]*spending),
	}
}

// take counts one request, unless the credential is locked out.
func (l *limiter) take(fingerprint string, now time.Time) quota {
	q := quota{limit: l.limit}
	if l.limit.Requests < 0 {
		return q
	}
	s := l.credentials[fingerprint]
	if s == nil {
		s = new(spending)
		l.credentials[fingerprint] = s
	}
	if now.Before(s.lockedUntil) {
		q.lockedFor = s.lockedUntil.Sub(now)
		return q
	}
	for len(s.times) > 0 && now.Sub(s.times[0]) >= l.limit.Window {
		s.times = s.times[1:]
	}
	if len(s.times) >= l.limit.Requests {
		s.times, s.lockedUntil = nil, now.Add(l.limit.Block)
		q.lockedFor = l.limit.Block
		return q
	}
	s.times = append(s.times, now)
	q.remaining = l.limit.Requests - len(s.times)
	q.reset = l.limit.Window - now.Sub(s.times[0])
	return q
}

// setHeaders tells the truth about the quota, in Cloudflare's form of 2025-09.
func (q quota) setHeaders(h http.Header) {
	if q.limit.Requests < 0 {
		return
	}
	h.Set("Ratelimit", fmt.Sprintf(`"default";r=%d;t=%s`, q.remaining, seconds(q.reset)))
	h.Set("Ratelimit-Policy", fmt.Sprintf(`"default";q=%d;w=%s`, q.limit.Requests, seconds(q.limit.Window)))
}
