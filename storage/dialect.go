package storage

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
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
)

// dialect is all that differs between the databases once they are open.
type dialect struct {
	name          string
	oneProcess    bool // no other process uses the database
	goose         goose.Dialect
	maxParameters int    // of a statement for many rows; 0 where these travel as arrays
	forUpdate     string // locks the rows of a SELECT that are about to change
	skipLocked    string // after forUpdate: leaves out those that others have locked
	forShare      string // keeps the rows of a SELECT from changing
	least         string // the scalar minimum
	greatest      string // the scalar maximum
	unflushed     string // in a WHERE: the commit of a changed row need not be on the disk
	retryable     func(error) bool
	unanswered    func(error) bool // the database has not said what became of a statement
}

// postgresDialect locks with NO KEY UPDATE: the keys never change, so the
// foreign keys that point to a locked row need not wait.
func postgresDialect() dialect {
	return dialect{
		name:       "postgres",
		goose:      goose.DialectPostgres,
		forUpdate:  " FOR NO KEY UPDATE",
		skipLocked: " SKIP LOCKED",
		forShare:   " FOR SHARE",
		least:      "LEAST",
		greatest:   "GREATEST",
		unflushed:  " AND set_config('synchronous_commit', 'off', true) = 'off'",
		retryable:  postgresRetryable,
		unanswered: postgresUnanswered,
	}
}

// sqliteDialect locks no rows: there is one writer at a time.
func sqliteDialect() dialect {
	return dialect{
		name:          "sqlite",
		oneProcess:    true,
		maxParameters: 5000, // 32766 are allowed
		goose:         goose.DialectSQLite3,
		least:         "MIN",
		greatest:      "MAX",
		retryable:     sqliteBusy,
		unanswered:    func(error) bool { return false },
	}
}

// postgresRetryable recognises serialization failures and deadlocks.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func postgresRetryable(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && (answer.Code == "40001" || answer.Code == "40P01")
}

// sqlStateReadOnly is what a server says to a writer after it has become, or
// before it has stopped to be, a standby.
const sqlStateReadOnly = "25006"

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
