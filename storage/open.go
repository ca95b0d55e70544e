package storage

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// DefaultMaxConns is how many connections a Store has to PostgreSQL at most: with
// about as many, two cores are busy, and five processes stay within PostgreSQL's
// default of 100 connections, with some left for who operates it.
const DefaultMaxConns = 16

const (
	// sqliteReaders is how many reads go on beside the one writer.
	sqliteReaders = 4
	// connLifetime lets a changed address or a rebalanced pooler be noticed.
	connLifetime = 30 * time.Minute
	// connIdleTime gives back to PostgreSQL what a burst needed.
	connIdleTime = 30 * time.Second
	// idleSession is when PostgreSQL ends what the pool would have ended: it has
	// been forgotten, and still counts as a connection.
	idleSession = connIdleTime + 15*time.Second
	// connectTimeout holds unless the URL has a connect_timeout.
	connectTimeout = 5 * time.Second
)

// database is what all Stores of one Open share.
type database struct {
	dialect dialect
	write   *pool
	read    *pool          // the same as write for PostgreSQL
	patient func() *sql.DB // for PostgreSQL: a pool whose statements may take long
	keys    *Keyring
	clock   *clock
	onDue   atomic.Pointer[func([]Group)]
	tally   *tally

	moveMost int // see Config.MoveMost
	endMost  int // endMost, but in tests

	registering gathering[*registration]
	lookingUp   gathering[*lookUp]
}

// CheckURL says what is wrong with a URL for Open. It does not quote it, for it
// may hold a password.
func CheckURL(rawURL string) error {
	scheme, rest, _ := strings.Cut(rawURL, ":")
	var err error
	switch scheme {
	case "sqlite":
		_, err = sqlitePath(rest)
	case "postgres", "postgresql":
		_, err = parsePostgres(rawURL)
	default:
		err = errURL
	}
	return err
}

var errURL = errors.New("must be sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME")

func parsePostgres(rawURL string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(rawURL)
	if err != nil {
		return nil, errors.New("is not a valid postgres://USER:PASSWORD@HOST/NAME") // pgx's error may quote it
	}
	return config, nil
}

// open makes the pools; it connects to nothing yet.
func open(config Config) (*database, error) {
	if config.Keys == nil {
		return nil, errors.New("no keyring")
	}
	db := &database{
		keys: config.Keys, clock: newClock(config.Now, config.Elapsed), tally: newTally(),
		moveMost: cmp.Or(config.MoveMost, defaultMoveMost), endMost: endMost,
	}
	db.registering = gathering[*registration]{do: db.registerTogether, most: sharedMost, atOnce: 1}
	db.lookingUp = gathering[*lookUp]{do: db.lookUpTogether, most: lookedUpMost, atOnce: 1}
	if config.OnDue != nil {
		db.onDue.Store(&config.OnDue)
	}
	scheme, rest, _ := strings.Cut(config.URL, ":")
	switch scheme {
	case "sqlite":
		return db, db.openSQLite(rest)
	case "postgres", "postgresql":
		return db, db.openPostgres(config.URL, config.MaxConns)
	}
	return nil, fmt.Errorf("the database URL %w", errURL)
}

// openPostgres uses pgx in a mode of one round trip per statement, see beforeConnect.
func (db *database) openPostgres(rawURL string, maxConns int) error {
	config, err := parsePostgres(rawURL)
	if err != nil {
		return fmt.Errorf("the database URL %w", err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // where beforeConnect does not say otherwise
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "relay"
	}
	if maxConns == 0 {
		maxConns = DefaultMaxConns
	}
	patient := *config
	db.patient = func() *sql.DB { return stdlib.OpenDB(patient) }
	r := &reach{}
	config.Tracer = r
	conns := sql.OpenDB(connector{stdlib.GetConnector(*config,
		stdlib.OptionBeforeConnect(r.beforeConnect), stdlib.OptionAfterConnect(r.afterConnect),
		stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false }), // resetSession does
		stdlib.OptionResetSession(r.resetSession))})
	conns.SetConnMaxLifetime(connLifetime)
	conns.SetConnMaxIdleTime(connIdleTime)
	db.dialect = postgresDialect()
	db.write = newPool(conns, db.dialect, maxConns)
	db.read = db.write
	return nil
}

// openSQLite makes the file, readable by its owner alone, and opens one
// connection to write with and a few to read with.
func (db *database) openSQLite(path string) error {
	path, err := sqlitePath(path)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return fmt.Errorf("the SQLite file: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("the SQLite file: %w", err)
	}
	writer := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
		"cache_size(-32768)", // KiB: the upper pages of the indexes that a burst writes, at a million watches
	}}
	reader := url.Values{"_pragma": {"busy_timeout(5000)", "query_only(1)"}}
	db.dialect = sqliteDialect()
	if db.write, err = sqlitePool(path, writer, db.dialect, 1); err != nil {
		return err
	}
	if db.read, err = sqlitePool(path, reader, db.dialect, sqliteReaders); err != nil {
		return errors.Join(err, db.write.Close())
	}
	return nil
}

// sqlitePath is the absolute path of what follows "sqlite:" in a URL.
func sqlitePath(path string) (string, error) {
	switch {
	case path == "":
		return "", errors.New("sqlite: needs the path of a file: sqlite:relay.db")
	case strings.Contains(path, ":memory:"):
		return "", errors.New("sqlite::memory: is refused: what the relay promises must outlive it; give the path of a file")
	case strings.HasPrefix(path, "//"):
		return "", errors.New("write sqlite:/absolute/path or sqlite:relative/path, without //")
	case strings.ContainsAny(path, "?#"):
		return "", errors.New("sqlite:PATH takes no options: the path may contain neither ? nor #")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("the SQLite file: %w", err)
	}
	return absolute, nil
}

func sqlitePool(path string, options url.Values, d dialect, conns int) (*pool, error) {
	name := url.URL{Scheme: "file", Path: path, RawQuery: options.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, fmt.Errorf("the SQLite file: %w", err)
	}
	return newPool(db, d, conns), nil
}
