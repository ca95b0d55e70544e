package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"oprelay/migrations"
)

const (
	// migrationLockEvery and migrationLockTries bound, in seconds and tries,
	// how long to wait for another process that migrates.
	migrationLockEvery = 1
	migrationLockTries = 300
)

// Migrate applies the migrations that are pending and names them. Several
// processes may call it at once: with PostgreSQL a session lock makes them wait
// for each other, so where migrations are pending a pooler in between is refused.
// A migration may take as long as it needs.
func (s *Store) Migrate(ctx context.Context) (applied []string, err error) {
	pool := s.db.write.DB
	if s.db.patient != nil {
		pool = s.db.patient()
		defer func() { err = errors.Join(err, pool.Close()) }()
	}
	provider, err := s.migrations(pool)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	if s.db.patient != nil {
		if err := needSession(ctx, provider, pool); err != nil {
			return nil, fmt.Errorf("migrate: %w", err)
		}
	}
	results, err := provider.Up(ctx)
	for _, result := range results {
		if result.Error == nil {
			applied = append(applied, result.Source.Path)
		}
	}
	if err != nil {
		return applied, fmt.Errorf("migrate: %w", err)
	}
	return applied, nil
}

// needSession refuses to migrate through a pooler: its next statement may be
// another server connection's, and a lock that one of them keeps is nobody's to free.
func needSession(ctx context.Context, provider *goose.Provider, pool *sql.DB) error {
	pending, err := provider.HasPending(ctx)
	if err != nil || !pending {
		return err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	var server, told uint32
	if err := conn.QueryRowContext(ctx, `SELECT pg_backend_pid()`).Scan(&server); err != nil {
		return err
	}
	err = conn.Raw(func(driver any) error {
		if ours, ok := driver.(*stdlib.Conn); ok {
			told = ours.Conn().PgConn().PID()
		}
		return nil
	})
	if err == nil && server != told {
		err = errors.New("a pooler stands before PostgreSQL, and migrations are pending, which need a session: " +
			"migrate with a RELAY_DATABASE_URL that leads to PostgreSQL itself")
	}
	return err
}

// MigrationStatus compares the database with the migrations this program knows.
func (s *Store) MigrationStatus(ctx context.Context) (Migrations, error) {
	provider, err := s.migrations(s.db.write.DB)
	if err != nil {
		return Migrations{}, fmt.Errorf("migration status: %w", err)
	}
	var status Migrations
	if status.Current, status.Latest, err = provider.GetVersions(ctx); err != nil {
		return Migrations{}, fmt.Errorf("migration status: %w", err)
	}
	all, err := provider.Status(ctx)
	if err != nil {
		return Migrations{}, fmt.Errorf("migration status: %w", err)
	}
	for _, one := range all {
		if one.State == goose.StatePending {
			status.Pending = append(status.Pending, one.Source.Path)
		}
	}
	status.Newer = status.Current > status.Latest
	return status, nil
}

// migrations is goose, set up for this database. It takes its connections from
// the pool and leaves that open.
func (s *Store) migrations(pool *sql.DB) (*goose.Provider, error) {
	if s.Backend() == "sqlite" {
		files, err := fs.Sub(migrations.SQLite, "sqlite")
		if err != nil {
			return nil, err
		}
		return goose.NewProvider(s.db.dialect.goose, pool, files, goose.WithDisableGlobalRegistry(true))
	}
	files, err := fs.Sub(migrations.Postgres, "postgres")
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(migrationLockEvery, migrationLockTries))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(s.db.dialect.goose, pool, files,
		goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker))
}
