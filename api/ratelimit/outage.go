package ratelimit

import (
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// patience is how long a count may take; beyond it Redis counts as away.
	patience = 500 * time.Millisecond
	// pause is how long a Redis that is away is left alone, so that an outage slows
	// one request in that time and not each.
	pause = 5 * time.Second
)

// outage remembers that Redis does not answer.
type outage struct {
	log *slog.Logger
	now func() time.Time
	// askAt is when to ask again, in nanoseconds since the epoch; 0 while Redis answers.
	askAt atomic.Int64
}

// mayAsk is true while Redis answers, and otherwise for one caller in each pause.
func (o *outage) mayAsk() bool {
	at := o.askAt.Load()
	if at == 0 {
		return true
	}
	now := o.now()
	// The clock may have been set back since.
	due := now.UnixNano() >= at || now.Add(pause).UnixNano() < at
	return due && o.askAt.CompareAndSwap(at, now.Add(pause).UnixNano())
}

// answered tells what came of asking; nil for an answer.
func (o *outage) answered(err error) {
	if err == nil {
		if o.askAt.Load() != 0 && o.askAt.Swap(0) != 0 {
			o.log.Info("the API's limits are counted in Redis again")
		}
		return
	}
	if o.askAt.Swap(o.now().Add(pause).UnixNano()) == 0 {
		o.log.Warn("the API's limits are counted by each process for itself: Redis does not answer", "error", err)
	}
}
