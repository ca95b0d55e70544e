package storage

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
	s := &Store{db: get(open(Config{URL: url, MaxConns: 1, Keys: &Keyring{}}))(t)}
	defer func() { check(t, s.Close()) }()
	const crowd = 20
	var order []int // who has the only connection writes to it
	var callers errgroup.Group
	check(t, s.write(t.Context(), func(*transaction) error {
		for i := range crowd {
			callers.Go(func() error {
				served := func(row scanner) (int64, error) {
					order = append(order, i)
					return scanInt(row)
				}
				if s.db.read == s.db.write && i%2 == 0 {
					_, err := queryOne(t.Context(), s.reader(), served, `SELECT 1`)
					return err
				}
				return s.write(t.Context(), func(tx *transaction) error {
					_, err := queryOne(t.Context(), tx, served, `SELECT 1`)
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
