// Package storage keeps everything the relay promises to do, in PostgreSQL or
// SQLite: tenants, credentials, destinations, watches, the operations they
// wait for, events, and deliveries.
//
// One concrete Store speaks to both databases in the SQL that they share. A
// missing row, or a row of another tenant, is ErrNotFound. Times are UTC and
// cut to microseconds. What is due is grouped (see Group), and a worker works
// through a group while it holds the group's lease.
package storage

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrNotFound says that there is no such row, or that it is not this tenant's.
	ErrNotFound = errors.New("not found")
	// ErrInUse says that a credential cannot be deleted, because watches that
	// are still watching use it.
	ErrInUse = errors.New("in use")
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
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// OnDue is told, after each commit, which groups the commit made due now.
	// It must not block. It may be nil, and set later with Store.SetOnDue.
	OnDue func([]Group)
	// MaxConns bounds the PostgreSQL pool; 0 means 16: two cores saturate a
	// database with about as many, and ten processes then stay within
	// PostgreSQL's default of 100 connections less what operators need.
	MaxConns int
}

// Store is the database. It is safe for concurrent use, except for one that
// Atomically hands out, which belongs to that call.
type Store struct{}

// Page says which part of a list is asked for.
type Page struct {
	Limit int    // at least 1
	After string // the id of the last row seen; "" starts with the newest
}

// List is one page of rows.
type List[T any] struct {
	Data []T
	Next string // the id to pass as Page.After; "" when there is no more
}

// Migrations says how far the schema is.
type Migrations struct {
	Current int64    // the newest migration in the database, 0 for an empty one
	Latest  int64    // the newest migration this program knows
	Pending []string // names of those still to apply, in order
	Newer   bool     // the database is ahead of this program
}

// Open connects to the database. It does not migrate it.
func Open(ctx context.Context, config Config) (*Store, error) { return nil, errTODO }
