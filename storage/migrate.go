package storage

import (
	"context"
	"database/sql"
	_ "embed" // schema.txt
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"oprelay/migrations"

	"oprelay/storage/sqldb"
)

const (
	// migrationLockEvery and migrationLockTries bound, in seconds and tries,
	// how long to wait for another process that migrates.
	migrationLockEvery = 1
	migrationLockTries = 300
)

// Migrate applies the pending migrations and names them. Several processes may call it at
// once: with PostgreSQL they wait for each other by a session lock, so a pooler in between
// is refused while any is pending. A migration may take as long as it needs.
func (s *Store) Migrate(ctx context.Context) (applied []string, err error) {
	pool, closePool := s.db.Patient()
	defer func() { err = errors.Join(err, closePool()) }()
	provider, err := s.migrations(pool)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	if err := needSession(ctx, provider, pool); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
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

// needSession refuses to migrate through a pooler. Its next statement may run on another
// server connection, and the session lock that the first one keeps would never be freed.
func needSession(ctx context.Context, provider *goose.Provider, pool *sql.DB) error {
	pending, err := provider.HasPending(ctx)
	if err != nil || !pending {
		return err
	}
	has, err := sqldb.HasSession(ctx, pool)
	if err == nil && !has {
		err = errors.New("a pooler stands before PostgreSQL, and migrations are pending, which need a session: " +
			"migrate with a RELAY_DATABASE_URL that leads to PostgreSQL itself")
	}
	return err
}

// MigrationStatus compares the database with the migrations this program knows.
func (s *Store) MigrationStatus(ctx context.Context) (status Migrations, err error) {
	pool, closePool := s.db.Patient()
	defer func() { err = errors.Join(err, closePool()) }()
	provider, err := s.migrations(pool)
	if err != nil {
		return Migrations{}, fmt.Errorf("migration status: %w", err)
	}
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
	return status, s.checkReleased(ctx)
}

// checkReleased is an error if the database is one of before the first release: it has what no
// release has.
func (s *Store) checkReleased(ctx context.Context) error {
	found, err := s.schema(ctx)
	if err != nil {
		return fmt.Errorf("migration status: %w", err)
	}
	if slices.ContainsFunc([]string{"watches.status", "watches.operation_id", "tenants.id that is no number"},
		func(of string) bool { return slices.Contains(found, of) }) {
		return errors.New("the database was made by a version before the first release, and this one does not take it over: " +
			"keep it for that version, and begin with an empty one (RELAY_DATABASE_URL)")
	}
	return nil
}

// errPending says that the database lacks migrations that this program knows.
var errPending = errors.New("migrations are pending")

// Ready is the reason why the database cannot be used, or nil: it does not answer, takes no
// writes, or migrations are pending. [Complaint] puts it into words.
func (s *Store) Ready(ctx context.Context) error {
	if err := s.Ping(ctx); err != nil {
		return err
	}
	current, err := sqldb.One(ctx, s.db, sqldb.Int, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version WHERE is_applied`)
	if err == nil && current < s.latest() {
		err = errPending
	}
	if err != nil {
		return fmt.Errorf("ready: %w", err)
	}
	return nil
}

// latest is the number of the newest migration that this program knows.
func (s *Store) latest() (latest int64) {
	files, _ := fs.ReadDir(s.migrationFiles(), ".") // embedded: it cannot fail
	for _, file := range files {
		number, _, _ := strings.Cut(file.Name(), "_")
		n, _ := strconv.ParseInt(number, 10, 64)
		latest = max(latest, n)
	}
	return latest
}

// migrationFiles are those for this database.
func (s *Store) migrationFiles() fs.FS {
	all, folder := migrations.Postgres, "postgres"
	if s.Backend() == "sqlite" {
		all, folder = migrations.SQLite, "sqlite"
	}
	files, _ := fs.Sub(all, folder) // embedded: it cannot fail
	return files
}

// migrations sets goose up for this database. It takes connections from the pool, and leaves
// that open.
func (s *Store) migrations(pool *sql.DB) (*goose.Provider, error) {
	files := s.migrationFiles()
	if s.Backend() == "sqlite" {
		return goose.NewProvider(goose.DialectSQLite3, pool, files, goose.WithDisableGlobalRegistry(true))
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(migrationLockEvery, migrationLockTries))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, pool, files,
		goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker))
}

// These list the columns of a database, as TABLE.COLUMN, and its unique indexes, as INDEX; and, for
// checkReleased, whether a tenant's id is no number.
const (
	sqliteSchema = `SELECT t.name || '.' || c.name FROM sqlite_schema t, pragma_table_info(t.name) c
			WHERE t.type = 'table' AND t.name NOT GLOB 'sqlite_*'
		UNION ALL SELECT i.name FROM sqlite_schema t, pragma_index_list(t.name) i WHERE t.type = 'table' AND i.origin = 'c' AND i."unique"
		UNION ALL SELECT 'tenants.id that is no number' FROM pragma_table_info('tenants') WHERE name = 'id' AND type <> 'INTEGER'`
	postgresSchema = `SELECT t.relname || '.' || c.attname FROM pg_attribute c JOIN pg_class t ON t.oid = c.attrelid
			WHERE t.relkind IN ('r', 'p') AND c.attnum > 0 AND NOT c.attisdropped
			AND t.relnamespace <> 'pg_catalog'::regnamespace AND pg_table_is_visible(t.oid)
		UNION ALL SELECT t.relname FROM pg_index i JOIN pg_class t ON t.oid = i.indexrelid
			WHERE i.indisunique AND i.indisvalid AND t.relnamespace <> 'pg_catalog'::regnamespace AND pg_table_is_visible(t.oid)
		UNION ALL SELECT 'tenants.id that is no number' FROM pg_attribute
			WHERE attrelid = to_regclass('tenants') AND attname = 'id' AND atttypid <> 'bigint'::regtype`
)

// CheckSchema is an error that names what the migrations make and the database lacks, though
// all count as applied: one was edited after it had been, or something was dropped.
func (s *Store) CheckSchema(ctx context.Context) error {
	wanted := strings.Fields(wantedSchema)
	found, err := s.schema(ctx)
	if err != nil {
		return fmt.Errorf("check the schema: %w", err)
	}
	if missing := lacking(wanted, found); len(missing) > 0 {
		return fmt.Errorf("the database lacks %s, though all migrations count as applied: one was edited after it had been, "+
			"or something was dropped; restore the database from a backup, or add what is missing as this version's migrations make it",
			strings.Join(missing, ", "))
	}
	return nil
}

// schema lists the columns and unique indexes of the database.
func (s *Store) schema(ctx context.Context) ([]string, error) {
	query := postgresSchema
	if s.Backend() == "sqlite" {
		query = sqliteSchema
	}
	return sqldb.All(ctx, s.db, sqldb.String, query)
}

// wantedSchema is what the migrations make, a name in each line, the same in both databases.
// It is a file, written by a test with -update, because to make it at each start in an empty
// SQLite took 14 MB of every process.
//
//go:embed schema.txt
var wantedSchema string

// lacking names what is wanted and not found, in order.
func lacking(wanted, found []string) (missing []string) {
	there := map[string]bool{}
	for _, name := range found {
		table, _, _ := strings.Cut(name, ".")
		there[name], there[table] = true, true
	}
	for _, name := range wanted {
		table, _, isColumn := strings.Cut(name, ".")
		switch {
		case there[name]:
		case !isColumn:
			missing = append(missing, "the unique index "+name)
		case !there[table]:
			missing = append(missing, "the table "+table)
		default:
			missing = append(missing, "the column "+name)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}
