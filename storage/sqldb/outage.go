package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
)

var (
	// ErrNotFound says that there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrOutcomeUnknown says that the database went away while it committed, so
	// that what was asked may have been kept or not. It is Unavailable too.
	ErrOutcomeUnknown = errors.New("the database went away at the commit")
	// ErrLocked says that a row stayed locked by another transaction for longer than the caller waits.
	ErrLocked = errors.New("locked by another transaction")
)

// Unavailable tells a database that is lost, full, or too busy (the caller may
// come back later) from a fault of this program.
func Unavailable(err error) bool {
	return postgresUnavailable(err) || sqliteUnavailable(err)
}

// Complaint is what an error that is Unavailable says of the database, for anybody to
// read: it names no address and no file.
func Complaint(err error) string {
	var answer *pgconn.PgError
	switch code := sqliteCode(err); {
	case code == sqliteCodeFull, errors.As(err, &answer) && answer.Code == sqlStateDiskFull:
		return "takes no writes, for its disk is full"
	case code == sqliteCodeReadOnly, answer != nil && answer.Code == sqlStateReadOnly:
		return "takes no writes, for it only reads (a standby, or set so)"
	case code == sqliteCodeIO, code == sqliteCodeCantOpen, answer != nil && strings.HasPrefix(answer.Code, "58"):
		return "cannot read or write its files"
	}
	return "does not answer"
}

// Healthy says whether the database took the last write, as far as anybody tried.
func (db *DB) Healthy() bool { return !db.unwell.Load() }

// SetHealthy notes whether the database takes writes. A failure of any statement says
// that it does not, and only a write that changes a row says that it does: one that finds
// nothing to change succeeds on a full disk too.
func (db *DB) SetHealthy(healthy bool) { db.unwell.Store(!healthy) }

// noteFailure notes what a statement found. A caller who did not wait for the answer has
// learned nothing.
func (db *DB) noteFailure(caller context.Context, err error) {
	if err != nil && caller.Err() == nil && Unavailable(err) {
		db.SetHealthy(false)
	}
}

// postgresRetryable recognises serialization failures and deadlocks.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func postgresRetryable(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && (answer.Code == "40001" || answer.Code == "40P01")
}

// postgresLocked recognises lock_not_available.
func postgresLocked(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == "55P03"
}

// sqlStateReadOnly is what a server says to a writer after it has become, or
// before it has stopped to be, a standby.
const sqlStateReadOnly = "25006"

// sqlStateDiskFull is what a server says that has no room for a row.
const sqlStateDiskFull = "53100"

// postgresUnavailable recognises a server that is away, starting, stopping,
// out of connections, disk or memory, at odds with its files, or a standby; and an
// answer that did not come in time, whichever side gave up waiting.
func postgresUnavailable(err error) bool {
	if answer := (*pgconn.PgError)(nil); errors.As(err, &answer) {
		switch {
		case postgresRetryable(err), answer.Code == sqlStateReadOnly:
			return true
		case answer.Code == "57014", answer.Code == "25P03": // statement_timeout, idle_in_transaction_session_timeout
			return true
		}
		return slices.ContainsFunc([]string{"08", "53", "57P", "58"}, func(class string) bool {
			return strings.HasPrefix(answer.Code, class)
		})
	}
	var connecting *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connecting) || errors.As(err, &network) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		// The one fault of a lost connection that pgx gives no type to.
		err != nil && strings.HasSuffix(err.Error(), "conn closed")
}

// postgresUnanswered recognises the loss of a connection before the answer: of ours,
// or of the one that a pooler had for us, which it tells with an error of class 08.
func postgresUnanswered(err error) bool {
	var answer *pgconn.PgError
	return postgresUnavailable(err) && (!errors.As(err, &answer) || strings.HasPrefix(answer.Code, "08"))
}

// Primary result codes of SQLite, https://www.sqlite.org/rescode.html
const (
	sqliteCodeBusy     = 5
	sqliteCodeLocked   = 6
	sqliteCodeReadOnly = 8
	sqliteCodeIO       = 10
	sqliteCodeFull     = 13
	sqliteCodeCantOpen = 14
)

// sqliteCode is the primary result code of err; 0 if it is none of SQLite's.
func sqliteCode(err error) int {
	var answer *sqlite.Error
	if !errors.As(err, &answer) {
		return 0
	}
	return answer.Code() & 0xff
}

func sqliteBusy(err error) bool {
	code := sqliteCode(err)
	return code == sqliteCodeBusy || code == sqliteCodeLocked
}

func sqliteUnavailable(err error) bool {
	switch sqliteCode(err) {
	case sqliteCodeBusy, sqliteCodeLocked, sqliteCodeReadOnly, sqliteCodeIO, sqliteCodeFull, sqliteCodeCantOpen:
		return true
	}
	return false
}
