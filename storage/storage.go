// Package storage keeps everything the relay promises to do, in PostgreSQL or
// SQLite: tenants, credentials, destinations, watches, the operations they
// wait for, events, and deliveries.
//
// One concrete Store speaks to both databases in the SQL that they share. A
// missing row, or a row of another tenant, is ErrNotFound. Times are UTC and
// cut to microseconds; those that work waits by are steady (see Store.Steady). What is due is grouped (see Group), and a worker works
// through a group while it holds the group's lease.
package storage

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNotFound says that there is no such row, or that it is not this tenant's.
	ErrNotFound = errors.New("not found")
	// ErrInUse says that a credential cannot be deleted, because watches that
	// are still watching use it.
	ErrInUse = errors.New("in use")
	// ErrOutcomeUnknown says that the database went away while it committed, so
	// that what was asked may have been kept or not. It is Unavailable too.
	ErrOutcomeUnknown = errors.New("the database went away at the commit")
	// ErrLeaseLost says that the group is not, or no longer, leased to the caller.
	ErrLeaseLost = errors.New("lease lost")
)

// Config says which database to open and with what.
type Config struct {
	// URL is sqlite:PATH (relative or absolute) or postgres://... A SQLite
	// file is for one process.
	URL string
	// Keys seals and opens the secrets that are kept.
	Keys *Keyring
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
	// Elapsed is how much time has gone by since some moment, whatever Now is set
	// to meanwhile; nil means as much as Now says.
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
	db *database
	tx *transaction // nil outside Atomically
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
	if err := errors.Join(db.write.PingContext(ctx), store.Ping(ctx)); err != nil {
		return nil, fmt.Errorf("open the database: %w", errors.Join(err, store.Close()))
	}
	return store, nil
}

// SetOnDue sets Config.OnDue, for who is only made after the store.
func (s *Store) SetOnDue(onDue func([]Group)) { s.db.onDue.Store(&onDue) }

// Backend says which database it is: "sqlite" or "postgres".
func (s *Store) Backend() string { return s.db.dialect.name }

// Ping asks whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if _, err := queryOne(ctx, s.db.read, scanInt, `SELECT 1`); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// Close closes the connections; what is running fails.
func (s *Store) Close() error {
	if s.db.read == s.db.write {
		return s.db.write.Close()
	}
	return errors.Join(s.db.read.Close(), s.db.write.Close())
}

// Atomically runs do in one transaction; inside, nested calls join it. When do
// fails, or any change that it made through tx failed, nothing is kept. On a
// conflict with another transaction do runs again, so it must have no effect
// but through tx. Do not use s itself inside: with SQLite, whose only writing
// connection is taken, that waits until ctx ends.
func (s *Store) Atomically(ctx context.Context, do func(tx *Store) error) error {
	return s.write(ctx, func(tx *transaction) error {
		return do(&Store{db: s.db, tx: tx})
	})
}

// Unavailable tells a database that is lost, full, or too busy (the caller may
// come back later) from a fault of this program.
func Unavailable(err error) bool {
	return postgresUnavailable(err) || sqliteUnavailable(err)
}
