package sqldb

import (
	"slices"
	"testing"
	"testing/synctest"

	"golang.org/x/sync/errgroup"

	"oprelay/deploy/testenv"
)

// A crowd that waits for a connection gets it in the order in which it came, whoever
// reads and whoever writes.
func TestConnectionsFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { t.Helper(); return "sqlite:" + t.TempDir() + "/relay.db" },
		"postgres": func(t *testing.T) string { t.Helper(); return testenv.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := url(t)
			synctest.Test(t, func(t *testing.T) {
				t.Helper()
				firstComeFirstServed(t, at)
			})
		})
	}
}

func firstComeFirstServed(t *testing.T, url string) {
	t.Helper()
	db := get(Open(Config{URL: url, MaxConns: 1}))(t)
	defer func() { check(t, db.Close()) }()
	const crowd = 20
	var order []int // who has the only connection writes to it
	var callers errgroup.Group
	check(t, db.Transact(t.Context(), 0, func(*Tx) error {
		for i := range crowd {
			callers.Go(func() error {
				served := func(row Row) (int64, error) {
					order = append(order, i)
					return Int(row)
				}
				if db.Name == "postgres" && i%2 == 0 {
					_, err := One(t.Context(), db, served, `SELECT 1`)
					return err
				}
				return db.Transact(t.Context(), 0, func(tx *Tx) error {
					_, err := One(t.Context(), tx, served, `SELECT 1`)
					return err
				})
			})
			synctest.Wait() // it is in the queue
		}
		return nil
	}))
	check(t, callers.Wait())
	if !slices.IsSorted(order) || len(order) != crowd {
		t.Errorf("served in the order %v", order)
	}
}

// get returns the value of a call that must not fail.
func get[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return value
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
