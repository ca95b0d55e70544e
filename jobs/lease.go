package jobs

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	leaseTTL   = 10 * time.Second
	leaseRenew = 3 * time.Second
	// afterOutage is how long no lease is taken once the database is back, if it was
	// away for long enough that leases can have run out: their holders, who repeat
	// their writing more often than that, shall record what they have sent before
	// anybody sends it again.
	afterOutage = 2 * time.Second
)

// keepLease renews a group's lease until ctx ends. It clears leased when the
// lease is lost, or when it would run out before the next try to renew it.
func keepLease(ctx context.Context, renew func(context.Context) (bool, error), leased *atomic.Bool) {
	for expires := time.Now().Add(leaseTTL); wait(ctx, leaseRenew); {
		asked := time.Now()
		renewCtx, cancel := context.WithDeadline(ctx, earlier(asked.Add(leaseRenew), expires))
		ok, err := renew(renewCtx)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && ok:
			expires = asked.Add(leaseTTL)
		case err == nil, !time.Now().Add(leaseRenew).Before(expires):
			leased.Store(false)
			return
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// wait pauses for d; it is false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
