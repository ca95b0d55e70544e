package storage

import (
	"context"

	"oprelay/storage/sqldb"
)

// Changes is what a commit has changed that somebody may follow.
type Changes struct {
	Events     []string  // tenants that have new events
	Watches    []Changed // watches that have begun or ended
	Operations []Changed // operations that have another status, by their rows' ids
}

// Changed is a row of a tenant.
type Changed struct{ TenantID, ID string }

// SetOnChange has a function called after each commit of this process that changed something
// to follow. It must not block. What commits of other processes change it is not told, nor of
// a commit whose outcome is unknown.
func (s *Store) SetOnChange(onChange func(Changes)) { s.db.onChange.Store(&onChange) }

// event notes an event; those of one tenant mostly come together.
func (c *Changes) event(tenantID string) {
	if n := len(c.Events); n == 0 || c.Events[n-1] != tenantID {
		c.Events = append(c.Events, tenantID)
	}
}

func (c *Changes) watch(tenantID, id string) { c.Watches = append(c.Watches, Changed{tenantID, id}) }

func (c *Changes) operation(tenantID, id string) {
	c.Operations = append(c.Operations, Changed{tenantID, id})
}

func (db *database) tellChanges(c Changes) {
	if onChange := db.onChange.Load(); onChange != nil && len(c.Events)+len(c.Watches)+len(c.Operations) > 0 {
		(*onChange)(c)
	}
}

// WatchesOf returns those of the watches that are the tenant's, in no order.
func (s *Store) WatchesOf(ctx context.Context, tenantID string, ids []string) (_ []Watch, err error) {
	defer wrapf(&err, "watches")
	args := sqldb.Args{prefixTenant.arg(tenantID)}
	return s.readMany(ctx, selectWatch+`WHERE w.tenant_id = $1 AND `+s.db.In(&args, "w.id", prefixWatch.args(ids)), args)
}

// OpenWatchesOf returns up to limit watches of the tenant that wait for these operations, by
// the ids of their rows, in no order.
func (s *Store) OpenWatchesOf(ctx context.Context, tenantID string, operations []string, limit int) (_ []Watch, err error) {
	defer wrapf(&err, "watches of operations")
	args := sqldb.Args{prefixTenant.arg(tenantID)}
	return s.readMany(ctx, selectWatch+`WHERE w.tenant_id = $1 AND w.id IN (SELECT watch_id FROM open_watches WHERE `+
		s.db.In(&args, "operation_ref", prefixOperation.args(operations))+` LIMIT `+args.Add(limit)+`)`, args)
}

func (s *Store) readMany(ctx context.Context, query string, args sqldb.Args) ([]Watch, error) {
	watches, err := sqldb.All(ctx, s.reader(), s.db.scanWatch, query, args...)
	if err == nil && len(watches) > 0 {
		err = s.db.addDestinations(ctx, s.reader(), watches)
	}
	return watches, err
}
