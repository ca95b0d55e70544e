package ratelimit

// MaxLocal is maxLocal.
const MaxLocal = maxLocal

// Local is how many callers this process remembers.
func (l *Limiter) Local() int { return l.local.Len() }
