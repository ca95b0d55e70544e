// Package storage keeps everything the relay promises to do, in PostgreSQL or
// SQLite: tenants, credentials, destinations, watches, the operations they
// wait for, events, and deliveries.
//
// One concrete Store speaks to both databases in the SQL that they share. A missing row, or a
// row of another tenant, is ErrNotFound. Times are UTC and cut to microseconds; those that
// work waits by are steady (see Store.Steady). What is due is grouped (see Group), and a
// worker works on a group while it holds the group's lease.
package storage

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

var (
	// ErrNotFound says that there is no such row, or that it is not this tenant's.
	ErrNotFound = sqldb.ErrNotFound
	// ErrInUse says that a credential or a destination cannot be deleted, because
	// watches that are still watching name it: an [InUseError] says how many.
	ErrInUse = errors.New("in use")
	// ErrOutcomeUnknown says that the database went away while it committed, so
	// that what was asked may have been kept or not. It is Unavailable too.
	ErrOutcomeUnknown = sqldb.ErrOutcomeUnknown
	// ErrLocked says that a row stayed locked by another transaction for longer than the caller waits.
	ErrLocked = sqldb.ErrLocked
	// ErrLeaseLost says that the group is not, or no longer, leased to the caller.
	ErrLeaseLost = errors.New("lease lost")
	// ErrOtherUpstream says that a credential is not for the upstream of a watch's source.
	ErrOtherUpstream = errors.New("the credential is for another upstream")
)

// Page says which part of a list is asked for.
type Page = sqldb.Page

// List is one page of rows.
type List[T any] = sqldb.List[T]

// DefaultMaxConns is how many connections a Store has to PostgreSQL at most.
const DefaultMaxConns = sqldb.DefaultMaxConns

// CheckURL says what is wrong with a URL for Open. It does not quote it, for it
// may hold a password.
func CheckURL(rawURL string) error { return sqldb.CheckURL(rawURL) }

// SQLiteFile is the one path of the file that the path leads to, by whichever links. The file
// need not be there yet, its folder must.
func SQLiteFile(path string) (string, error) { return sqldb.SQLiteFile(path) }

// InUseError is ErrInUse with the number of watches that stand against a deletion.
type InUseError struct{ Open int }

func (e *InUseError) Error() string { return fmt.Sprintf("open watches that name it: %d", e.Open) }

// Unwrap makes it ErrInUse.
func (e *InUseError) Unwrap() error { return ErrInUse }

// Config says which database to open and with what.
type Config struct {
	// URL is sqlite:PATH (relative or absolute) or postgres://... A SQLite
	// file is for one process.
	URL string
	// Keys seals and opens secrets.
	Keys *seal.Keyring
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
	// Elapsed is how much time has gone by since some moment, however the wall clock is set
	// meanwhile; nil means as much as Now says.
	Elapsed func() time.Duration
	// OnDue is told, after each commit, which groups the commit made due now.
	// It must not block. It may be nil, and set later with Store.SetOnDue.
	OnDue func([]Group)
	// MaxConns bounds the PostgreSQL pool; 0 means DefaultMaxConns.
	MaxConns int
	// MoveMost bounds how many deliveries one transaction moves to another state;
	// 0 means 1,000.
	MoveMost int
}

// Store is the database. It is safe for concurrent use, except for one that
// Atomically hands out, which belongs to that call.
type Store struct {
	db    *database
	tx    *transaction // nil outside Atomically
	hasty bool         // it waits lockPatience for a lock, and then fails with ErrLocked
}

// database is what all Stores of one Open share.
type database struct {
	*sqldb.DB

	keys       *seal.Keyring
	clock      *clock
	onDue      atomic.Pointer[func([]Group)]
	onEnded    atomic.Pointer[func([]EndedWatch)]   // nil for nobody
	onRecorded atomic.Pointer[func(GroupKind, int)] // nil for nobody
	onChange   atomic.Pointer[func(Changes)]        // nil for nobody
	counters   *counters
	ids        atomic.Uint32 // how many datedID has made

	moveMost int // see Config.MoveMost
	endMost  int // endMost, but in tests

	registrations *groupCommit[*registration]
	polls         *groupCommit[[]PollResult]
	attempts      *groupCommit[[]AttemptResult]
	waiters       chan struct{} // its capacity is how many callers wait for locks at a time
}

// open makes the database; it connects to nothing yet.
func open(config Config) (*database, error) {
	if config.Keys == nil {
		return nil, errors.New("no keyring")
	}
	inner, err := sqldb.Open(sqldb.Config{URL: config.URL, MaxConns: config.MaxConns})
	if err != nil {
		return nil, err
	}
	db := &database{
		DB: inner, keys: config.Keys, clock: newClock(config.Now, config.Elapsed), counters: newCounters(),
		moveMost: cmp.Or(config.MoveMost, defaultMoveMost), endMost: endMost,
	}
	db.registrations = newGroupCommit(db, 1, (*Store).registerAll)
	db.polls = newGroupCommit(db, 1, (*Store).commitPolls)
	db.attempts = newGroupCommit(db, 2, (*Store).commitAttempts)
	// Each waits with a connection, and most of these are for others.
	db.waiters = make(chan struct{}, max(cmp.Or(config.MaxConns, DefaultMaxConns)/4, 1))
	if config.OnDue != nil {
		db.onDue.Store(&config.OnDue)
	}
	return db, nil
}

// Migrations says how far the schema is.
type Migrations struct {
	Current int64    // the newest migration in the database, 0 for an empty one
	Latest  int64    // the newest migration this program knows
	Pending []string // names of those still to apply, in order
	Newer   bool     // the database is ahead of this program
}

// Open connects to the database. It does not migrate it.
func Open(ctx context.Context, config Config) (*Store, error) {
	db, err := open(config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	store := &Store{db: db}
	// The first writing connection makes the file a WAL database, before any reader opens it.
	if err := errors.Join(db.Connect(ctx), store.Ping(ctx)); err != nil {
		return nil, fmt.Errorf("open the database: %w", errors.Join(err, store.Close()))
	}
	return store, nil
}

// SetOnDue sets Config.OnDue later.
func (s *Store) SetOnDue(onDue func([]Group)) { s.db.onDue.Store(&onDue) }

// SetOnEnded has a function called after each commit of this process with the watches that it
// has ended. It must not block.
func (s *Store) SetOnEnded(onEnded func([]EndedWatch)) { s.db.onEnded.Store(&onEnded) }

// SetOnRecorded has a function told how many results of a kind of group each commit of this
// process has recorded. It must not block.
func (s *Store) SetOnRecorded(onRecorded func(kind GroupKind, results int)) {
	s.db.onRecorded.Store(&onRecorded)
}

// Backend says which database it is: "sqlite" or "postgres".
func (s *Store) Backend() string { return s.db.Name }

// Ping asks whether the database answers, and is Writable.
func (s *Store) Ping(ctx context.Context) error {
	_, err := sqldb.One(ctx, s.db, sqldb.Int, `SELECT 1`)
	if err == nil {
		err = s.Writable(ctx)
	}
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// Close closes the connections; what is running fails.
func (s *Store) Close() error { return s.db.Close() }

// Pools tells how each pool of connections is used, by its name: "all" with
// PostgreSQL, "read" and "write" with SQLite. It asks the database nothing.
func (s *Store) Pools() map[string]sql.DBStats { return s.db.Pools() }

// Writable is the reason why the database takes no writes: nil if it took the last one, or
// takes one now. A full disk and a standby still answer reads, so reads show nothing. A
// healthy database is not asked, for [Store.KeepClock] writes regularly.
func (s *Store) Writable(ctx context.Context) error {
	if s.db.Healthy() {
		return nil
	}
	return s.Heartbeat(ctx)
}

// Complaint puts an error that is Unavailable, or of [Store.Ready], into words for anybody to
// read: without addresses and files.
func Complaint(err error) string {
	if errors.Is(err, errPending) {
		return "lacks migrations: run relay migrate up"
	}
	return sqldb.Complaint(err)
}

// Atomically runs do in one transaction, which calls of tx join. If do fails, or any change
// through tx failed, nothing is kept, even if do ignores it: PostgreSQL does so by itself. On
// a conflict with another transaction do runs again, so it must have no effect but through
// tx. Do not use s itself inside: with SQLite, which has one writing connection, that waits
// until ctx ends.
func (s *Store) Atomically(ctx context.Context, do func(tx *Store) error) error {
	return s.write(ctx, func(tx *transaction) error {
		return do(&Store{db: s.db, tx: tx})
	})
}

// Unavailable says whether an error is one of a database that is lost, full or too busy, so
// that the caller may try again later.
func Unavailable(err error) bool {
	return sqldb.Unavailable(err)
}

// wrapf names the operation that has failed in its error.
func wrapf(err *error, format string, args ...any) {
	if *err != nil {
		*err = fmt.Errorf(format+": %w", append(args, *err)...)
	}
}

// Reclaim frees the leases, and the idempotency keys without an answer, of a process that
// died. Call it only where no other process uses the database, as at a start with SQLite.
// Elsewhere leases and reservations run out by themselves.
func (s *Store) Reclaim(ctx context.Context) (err error) {
	defer wrapf(&err, "reclaim")
	return s.write(ctx, func(tx *transaction) error {
		if err := tx.Later(`DELETE FROM idempotency_keys WHERE answer IS NULL`); err != nil {
			return err
		}
		return tx.Later(`UPDATE work_groups SET owner = '', leased_until = 0 WHERE leased_until > 0`)
	})
}
