package jobs

import (
	"sync"
	"time"
)

// maxCached bounds a cache; past it, what has expired is dropped.
const maxCached = 1024

// cache keeps what is costly to open, such as a sealed secret, for a short time.
type cache[V any] struct {
	ttl time.Duration
	now func() time.Time
	mu  sync.Mutex
	all map[string]cached[V]
}

type cached[V any] struct {
	value V
	until time.Time
}

func newCache[V any](ttl time.Duration, now func() time.Time) *cache[V] {
	return &cache[V]{ttl: ttl, now: now, all: map[string]cached[V]{}}
}

// get returns what is kept under id, or opens it and keeps that.
func (c *cache[V]) get(id string, open func() (V, error)) (V, error) {
	c.mu.Lock()
	kept, ok := c.all[id]
	c.mu.Unlock()
	now := c.now()
	if ok && now.Before(kept.until) {
		return kept.value, nil
	}
	value, err := open()
	if err != nil {
		return value, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= maxCached {
		for id, kept := range c.all {
			if !now.Before(kept.until) {
				delete(c.all, id)
			}
		}
	}
	c.all[id] = cached[V]{value, now.Add(c.ttl)}
	return value, nil
}
