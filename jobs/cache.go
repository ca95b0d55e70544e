package jobs

import (
	"context"
	"time"

	"github.com/jellydator/ttlcache/v3"
)

// maxCached bounds a cache; past it, what was asked for longest ago is dropped.
const maxCached = 10_000

// cache keeps what is costly to open, such as a sealed secret, for a short time.
type cache[V any] struct {
	ttl time.Duration
	all *ttlcache.Cache[string, V]
}

func newCache[V any](ttl time.Duration) *cache[V] {
	return &cache[V]{ttl, ttlcache.New(ttlcache.WithTTL[string, V](ttl), ttlcache.WithCapacity[string, V](maxCached),
		ttlcache.WithDisableTouchOnHit[string, V]())}
}

// get returns what is kept under id, or opens it and keeps that.
func (c *cache[V]) get(id string, open func() (V, error)) (V, error) {
	if kept := c.all.Get(id); kept != nil {
		return kept.Value(), nil
	}
	value, err := open()
	if err == nil {
		c.all.Set(id, value, ttlcache.DefaultTTL)
	}
	return value, err
}

// forget drops what nobody asks for any more, until ctx ends: nothing stays for twice
// as long as it may be used.
func (c *cache[V]) forget(ctx context.Context) {
	for wait(ctx, c.ttl) {
		c.all.DeleteExpired()
	}
}
