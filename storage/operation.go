package storage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"oprelay/storage/sqldb"
)

// ParamAccountID is the parameter of Cloudflare's sources that lists know by itself.
const ParamAccountID = "account_id"

// The states of an operation, as the upstream names them.
const (
	OperationPending   = "pending"
	OperationRunning   = "running"
	OperationCompleted = "completed"
	OperationFailed    = "failed"
)

// Operation is what is known of the external, long-running thing.
type Operation struct {
	Source         string
	Params         map[string]string // what the source asks for beside the id
	ID             string
	UpstreamStatus string // the upstream's own word, "" until seen
	Status         string // "" until seen
	Error          string
	CompletedAt    time.Time
}

// AccountID is the Cloudflare account, "" for an operation of another upstream.
func (o *Operation) AccountID() string { return o.Params[ParamAccountID] }

// What Operation.columns reads: of one table, and of an operation that is over (o) or open (p).
const (
	ownOperationColumns = `source, params, operation_id, upstream_status, status, error, completed_at`
	operationColumns    = `COALESCE(o.source, p.source), COALESCE(o.params, p.params), COALESCE(o.operation_id, p.operation_id),
	COALESCE(o.upstream_status, p.upstream_status), COALESCE(o.status, p.status), COALESCE(o.error, p.error),
	COALESCE(o.completed_at, p.completed_at)`
	ofOperation = `LEFT JOIN operations o ON o.id = w.operation_ref LEFT JOIN open_operations p ON p.id = w.operation_ref`
)

func (o *Operation) columns() []any {
	return []any{&o.Source, sqldb.JSON(&o.Params), &o.ID, &o.UpstreamStatus, &o.Status, &o.Error, sqldb.Time(&o.CompletedAt)}
}

// hashed is what stands for a tenant's text of any length in an index. Another may have the same.
func hashed(tenantID, text string) int64 {
	hash := sha256.Sum256([]byte(tenantID + text))
	return int64(binary.BigEndian.Uint64(hash[:]))
}

// operationOrder is the order in which operations are locked. It is the order in which
// registrations insert them, which do not know the ids of those that exist.
const operationOrder = ` ORDER BY credential_id, identity, id`

// lock locks open operations, and returns the ids of all that it has locked and those that are
// not over. Unless it is to wait, it skips those that another transaction has locked: so a
// transaction for many is not held up by one. An operation of which a watch is open is there.
func (tx *transaction) lock(ctx context.Context, ids []string, wait bool) (locked []string, active []lockedOperation, err error) {
	var args sqldb.Args
	skip := tx.SkipLocked
	if wait {
		skip = ""
	}
	all, err := sqldb.All(ctx, tx, scanOperation, `SELECT id, tenant_id, budget_id, source, params, operation_id, polls, watches,
		upstream_status, status, error, completed_at, last_poll_asked_at IS NOT NULL, held
		FROM open_operations WHERE `+tx.In(&args, "id", prefixOperation.args(ids))+operationOrder+tx.ForUpdate+skip, args...)
	for _, o := range all {
		locked = append(locked, o.id)
		if o.budgetID != "" {
			active = append(active, o)
		}
	}
	return locked, active, err
}

// lockedOperation is an operation whose row is locked.
type lockedOperation struct {
	id             string
	tenantID       string
	budgetID       string // "" if it is over, and some of its watches have still to be ended
	source         string
	params         string // JSON
	operationID    string
	polls          int
	watches        int // how many refer to it
	upstreamStatus string
	status         string
	message        string // the upstream's error message
	completedAt    time.Time
	lastPoll       bool // a watch whose deadline has passed waits for the next poll
	held           bool // the budget makes the next poll later than the operation's own interval
}

func scanOperation(row sqldb.Row) (lockedOperation, error) {
	var o lockedOperation
	err := row.Scan(prefixOperation.scan(&o.id), prefixTenant.scan(&o.tenantID), &o.budgetID, &o.source, &o.params, &o.operationID,
		&o.polls, &o.watches, &o.upstreamStatus, &o.status, &o.message, sqldb.Time(&o.completedAt), &o.lastPoll, &o.held)
	return o, err
}

// What is kept of an operation that is over.
const keptColumns = `id, source, params, operation_id, polls, last_polled_at, status, upstream_status, error, completed_at,
	problem, refused_reason, watches`

// noOpenWatch is the condition that no watch of an open operation is open. Its row is locked, and
// so is that of an operation that gets a new watch.
const noOpenWatch = `NOT EXISTS (SELECT 1 FROM open_watches w WHERE w.operation_ref = open_operations.id)`

// closeIdle closes those of the locked operations that no watch waits for any more. A budget
// for which one of them was held back is planned anew, for it has more for the others now.
func (tx *transaction) closeIdle(operations []lockedOperation) error {
	if len(operations) == 0 {
		return nil
	}
	ids := make([]string, len(operations))
	for i, o := range operations {
		ids[i] = o.id
	}
	for _, o := range operations {
		if o.held {
			tx.markDue(Group{PollGroup, o.budgetID}, tx.db.steady())
		}
	}
	var args sqldb.Args
	idle := ` WHERE ` + tx.In(&args, "id", prefixOperation.args(ids)) + ` AND ` + noOpenWatch
	err := tx.Later(`INSERT INTO operations (`+keptColumns+`) SELECT `+keptColumns+` FROM open_operations`+idle, args...)
	if err != nil {
		return err
	}
	return tx.Later(`DELETE FROM open_operations`+idle, args...)
}

// forgetEnded deletes operations that are over from those that are open. If some of their watches
// may have still to be ended, those with such ones stay, for EndRemaining to find: with no budget,
// so that nothing polls them, and an identity that no new watch shares.
func (tx *transaction) forgetEnded(ids []string, maybeSome bool) error {
	var args sqldb.Args
	if maybeSome {
		end := `UPDATE open_operations SET budget_id = '', identity = id WHERE ` + tx.In(&args, "id", prefixOperation.args(ids))
		if err := tx.Later(end, args...); err != nil {
			return err
		}
	}
	args = nil
	return tx.Later(`DELETE FROM open_operations WHERE `+tx.In(&args, "id", prefixOperation.args(ids))+` AND `+noOpenWatch, args...)
}
