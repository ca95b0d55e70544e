package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// What Operation.columns reads, of a table and of the operations o.
const (
	ownOperationColumns = `source, params, operation_id, upstream_status, status, error, completed_at`
	operationColumns    = `o.source, o.params, o.operation_id, o.upstream_status, o.status, o.error, o.completed_at`
)

func (o *Operation) columns() []any {
	return []any{&o.Source, sqldb.JSON(&o.Params), &o.ID, &o.UpstreamStatus, &o.Status, &o.Error, sqldb.Time(&o.CompletedAt)}
}

// longestListed is how long an operation's id may be to stand in an index as it is.
const longestListed = 128

// listedID is what watches are found by: the operation's id, or a hash where it is long.
func listedID(operationID string) string {
	if len(operationID) <= longestListed {
		return operationID
	}
	hash := sha256.Sum256([]byte(operationID))
	return "sha256:" + hex.EncodeToString(hash[:])
}

// operationOrder is the order in which operations are locked. It is the order in which
// registrations insert them, which do not know the ids of those that exist.
const operationOrder = ` ORDER BY credential_id, identity, id`

// lock locks operations, and returns the ids of all that it has locked and those that are
// active. Unless it is to wait, it skips those that another transaction has locked: so a
// transaction for many is not held up by one.
func (tx *transaction) lock(ctx context.Context, ids []string, wait bool) (locked []string, active []lockedOperation, err error) {
	var args sqldb.Args
	skip := tx.SkipLocked
	if wait {
		skip = ""
	}
	all, err := sqldb.All(ctx, tx, scanOperation, `SELECT id, tenant_id, budget_id, upstream_status, status, error, completed_at, active,
		last_poll_asked_at IS NOT NULL, held
		FROM operations WHERE `+tx.In(&args, "id", ids)+operationOrder+tx.ForUpdate+skip, args...)
	for _, o := range all {
		locked = append(locked, o.id)
		if o.active {
			active = append(active, o)
		}
	}
	return locked, active, err
}

// lockedOperation is an operation whose row is locked.
type lockedOperation struct {
	id             string
	tenantID       string
	budgetID       string
	upstreamStatus string
	status         string
	message        string // the upstream's error message
	completedAt    time.Time
	active         bool
	lastPoll       bool // a watch whose deadline has passed waits for the next poll
	held           bool // the budget makes the next poll later than the operation's own interval
}

func scanOperation(row sqldb.Row) (lockedOperation, error) {
	var o lockedOperation
	err := row.Scan(&o.id, &o.tenantID, &o.budgetID, &o.upstreamStatus, &o.status, &o.message, sqldb.Time(&o.completedAt),
		&o.active, &o.lastPoll, &o.held)
	return o, err
}
