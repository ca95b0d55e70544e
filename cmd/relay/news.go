package main

import (
	"context"
	"strings"

	"oprelay/api"
	"oprelay/storage"
)

// The kinds of change that processes tell each other of.
const (
	newsOfEvents     = "events"
	newsOfWatches    = "watch"
	newsOfOperations = "operation"
)

// followChanges has the streams of this process's API, if it has one, told of what commits
// change, here and in other processes; and those told of what commits of this one change. On
// the embedded Redis there is but this process.
func (p *process) followChanges(server *api.Server) {
	alone := p.cfg.redisURL == embeddedRedis
	p.store.SetOnChange(func(c storage.Changes) {
		if server != nil {
			server.Changed(c)
		}
		if alone {
			return
		}
		if !p.waker.Hinted() {
			c.Watches, c.Operations = nil, nil
		}
		p.waker.Tell(encodeChanges(c))
	})
	if server == nil || alone {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		p.waker.HearNews(ctx, server.ShowsProgress, func(items []string) { server.Changed(decodeChanges(items)) })
	}()
	p.onStop(func(context.Context) error { cancel(); <-heard; return nil })
}

// encodeChanges makes an item of each tenant with events, and a hint of each other change: its
// kind, the tenant, and the row's id.
func encodeChanges(c storage.Changes) (items, hints []string) {
	for _, tenantID := range c.Events {
		items = append(items, newsOfEvents+" "+tenantID)
	}
	for _, w := range c.Watches {
		hints = append(hints, newsOfWatches+" "+w.TenantID+" "+w.ID)
	}
	for _, o := range c.Operations {
		hints = append(hints, newsOfOperations+" "+o.TenantID+" "+o.ID)
	}
	return items, hints
}

// decodeChanges reads what encodeChanges made. What another version made of more it leaves out.
func decodeChanges(items []string) (c storage.Changes) {
	for _, item := range items {
		kind, rest, _ := strings.Cut(item, " ")
		tenantID, id, _ := strings.Cut(rest, " ")
		switch kind {
		case newsOfEvents:
			c.Events = append(c.Events, tenantID)
		case newsOfWatches:
			c.Watches = append(c.Watches, storage.Changed{TenantID: tenantID, ID: id})
		case newsOfOperations:
			c.Operations = append(c.Operations, storage.Changed{TenantID: tenantID, ID: id})
		}
	}
	return c
}
