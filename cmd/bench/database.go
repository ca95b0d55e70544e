package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"oprelay/storage/sqldb"
)

// database is a relay's, for what no relay does: it is on the database alone then,
// where that is SQLite.
type database struct {
	*sql.DB

	postgres bool
	tidy     []string // what would be done by itself, and maybe just while it is measured
	closers  []func() error
}

// open opens it. Whoever calls it closes it.
func (r *relay) open() (*database, error) {
	all, err := sqldb.Open(sqldb.Config{URL: r.env["RELAY_DATABASE_URL"]})
	if err != nil {
		return nil, err
	}
	d := &database{postgres: !r.shape.embedded, tidy: []string{"PRAGMA wal_checkpoint(TRUNCATE)"}}
	if d.postgres {
		d.tidy = []string{"VACUUM ANALYZE", "CHECKPOINT"}
	}
	var closeConns func() error
	d.DB, closeConns = all.Patient()
	d.closers = []func() error{closeConns, all.Close}
	return d, nil
}

func (d *database) close() error {
	var faults []error
	for _, do := range d.closers {
		faults = append(faults, do())
	}
	return errors.Join(faults...)
}

// run runs statements, each as a transaction by itself.
func (d *database) run(ctx context.Context, statements ...string) error {
	for _, statement := range statements {
		if _, err := d.ExecContext(ctx, statement); err != nil { //nolint:gosec // the bench wrote it
			return fmt.Errorf("%.200s: %w", statement, err)
		}
	}
	return nil
}

// number is what a query says.
func (d *database) number(ctx context.Context, query string) (n int64, err error) {
	if err = d.QueryRowContext(ctx, query).Scan(&n); err != nil {
		err = fmt.Errorf("%.200s: %w", query, err)
	}
	return n, err
}

// random is an expression: a random number from 0 to below n, another one in each row.
func (d *database) random(n int64) string {
	if d.postgres {
		return fmt.Sprintf("floor(random() * %d)::bigint", n)
	}
	return fmt.Sprintf("abs(random() %% %d)", n)
}

// uuid is an expression: the 16 bytes of an expression for their hexadecimal digits.
func (d *database) uuid(digits string) string {
	if d.postgres {
		return "CAST(" + digits + " AS uuid)"
	}
	return "unhex(" + digits + ")"
}

// digits is an expression: the hexadecimal digits of a column of 16 bytes.
func (d *database) digits(column string) string {
	if d.postgres {
		return "replace(CAST(" + column + " AS text), '-', '')"
	}
	return "hex(" + column + ")"
}

// size is how many bytes all of it takes, without what SQLite has free.
func (d *database) size(ctx context.Context) (int64, error) {
	if d.postgres {
		return d.number(ctx, "SELECT pg_database_size(current_database())")
	}
	return d.number(ctx, `SELECT (page_count - freelist_count) * page_size
		FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()`)
}

// lend stops what works on the relay's database and lends that to do.
func (r *relay) lend(ctx context.Context, do func(context.Context, *database) error) error {
	if err := r.halt(); err != nil {
		return err
	}
	d, err := r.open()
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, d), d.close())
}

// halt ends what polls and delivers: the workers, or all in one.
func (r *relay) halt() (err error) {
	if !r.shape.embedded {
		err = r.kill(r.worker...)
	} else if r.api != nil {
		err, r.api = r.kill(r.api), nil
	}
	r.worker = nil
	return err
}

// goOn starts again what was halted.
func (r *relay) goOn() error {
	if !r.shape.embedded {
		return r.startWorkers()
	}
	return errors.Join(r.startProcesses(), r.connect())
}
