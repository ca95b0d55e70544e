package jobs

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"oprelay/storage"
)

const (
	leaseTTL   = 10 * time.Second
	leaseRenew = 3 * time.Second
)

// leases are those that this process holds. One statement renews them all.
type leases struct {
	store renewer
	owner string

	mu   sync.Mutex
	held map[storage.Group]*lease
}

// renewer is what leases need of the store.
type renewer interface {
	RenewLeases(ctx context.Context, owner string, ttl time.Duration, groups []storage.Group) (renewed []storage.Group, err error)
	RenewLease(ctx context.Context, group storage.Group, owner string, ttl time.Duration) (renewed bool, err error)
}

// lease is that of one run, which is told when it is lost.
type lease struct {
	lose   func()
	expiry *time.Timer // calls lose, unless the lease is renewed in time
}

// hold keeps the lease of the group, which was asked for at that time, until it is let go
// of. lose is called if it is lost before.
func (l *leases) hold(g storage.Group, asked time.Time, lose func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[g] = &lease{lose, time.AfterFunc(time.Until(asked.Add(leaseTTL)), lose)}
}

// letGo is to be called before the lease is given back, so that it does not count as lost.
func (l *leases) letGo(g storage.Group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[g].expiry.Stop()
	delete(l.held, g)
}

// keep renews all leases every so often until ctx ends.
func (l *leases) keep(ctx context.Context) {
	ticker := time.NewTicker(leaseRenew)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.renew(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// renew renews the leases that are held now. Those that it fails to renew run out, unless
// a later one comes in time.
func (l *leases) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaseRenew)
	defer cancel()
	asked := time.Now()
	l.mu.Lock()
	left := maps.Clone(l.held)
	l.mu.Unlock()
	if len(left) == 0 {
		return
	}
	renewed, err := l.store.RenewLeases(ctx, l.owner, leaseTTL, slices.Collect(maps.Keys(left)))
	if err != nil {
		return
	}
	for _, g := range renewed {
		l.renewed(g, left[g], asked)
		delete(left, g)
	}
	// Somebody has locked those that are left, or they are another's by now.
	var single sync.WaitGroup
	for g, one := range left {
		single.Go(func() {
			switch ok, err := l.store.RenewLease(ctx, g, l.owner, leaseTTL); {
			case err == nil && ok:
				l.renewed(g, one, asked)
			case err == nil:
				l.lost(g, one)
			}
		})
	}
	single.Wait()
}

// renewed puts off the end of the lease, unless it was let go of meanwhile.
func (l *leases) renewed(g storage.Group, one *lease, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[g] == one {
		one.expiry.Reset(time.Until(asked.Add(leaseTTL)))
	}
}

func (l *leases) lost(g storage.Group, one *lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[g] == one {
		one.lose()
	}
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
