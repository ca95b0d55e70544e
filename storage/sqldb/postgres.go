package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// DefaultMaxConns is how many connections a DB has to PostgreSQL at most: with
	// about as many, two cores are busy, and five processes stay within PostgreSQL's
	// default of 100 connections, with some left for who operates it.
	DefaultMaxConns = 16
	// connLifetime lets a changed address or a rebalanced pooler be noticed.
	connLifetime = 30 * time.Minute
	// connIdleTime gives back to PostgreSQL what a burst needed; it is looked for each
	// idleCheck.
	connIdleTime = 30 * time.Second
	idleCheck    = 10 * time.Second
	// idleSession is when PostgreSQL itself ends an idle session. The pool ends its own sooner, so
	// this ends only those whose client is gone, which would still count as connections.
	idleSession = connIdleTime + 15*time.Second
	// keptStatements is how many different ones a connection remembers, unless the URL says so.
	keptStatements = 512
	// connectTimeout holds unless the URL has a connect_timeout.
	connectTimeout = 5 * time.Second
)

func parsePostgres(rawURL string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(rawURL)
	if err != nil {
		return nil, errors.New("is not a valid postgres://USER:PASSWORD@HOST/NAME") // pgx's error may quote it
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "relay"
	}
	// Each type is asked for once, so that values travel as bytes, not as text; beforeConnect
	// has whole plans kept where it can.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	for _, capacity := range []*int{&config.ConnConfig.StatementCacheCapacity, &config.ConnConfig.DescriptionCacheCapacity} {
		*capacity = cmp.Or(*capacity, keptStatements) // some URLs say 0, as drivers without descriptions need it for a pooler
	}
	return config, nil
}

func openPostgres(c Config) (*DB, error) {
	config, err := parsePostgres(c.URL)
	if err != nil {
		return nil, fmt.Errorf("the database URL %w", err)
	}
	patient := config.ConnConfig.Copy()
	config.MaxConns = int32(cmp.Or(c.MaxConns, DefaultMaxConns))
	config.MaxConnLifetime, config.MaxConnIdleTime, config.HealthCheckPeriod = connLifetime, connIdleTime, idleCheck
	all, err := newPostgresPool(config)
	if err != nil {
		return nil, err
	}
	return &DB{
		Dialect: postgresDialect(), write: all, read: all, before: c.Before,
		patient: func() *sql.DB { return stdlib.OpenDB(*patient) },
	}, nil
}

// postgresPool is connections to a PostgreSQL.
type postgresPool struct {
	*pgxpool.Pool
	health
}

// newPostgresPool connects to nothing yet.
func newPostgresPool(config *pgxpool.Config) (*postgresPool, error) {
	p := &postgresPool{}
	config.BeforeConnect, config.AfterConnect, config.ShouldPing = p.beforeConnect, p.afterConnect, p.ping
	config.ConnConfig.Tracer = &p.health
	var err error
	p.Pool, err = pgxpool.NewWithConfig(context.Background(), config)
	return p, err
}

func (p *postgresPool) hold(ctx context.Context, do func(conn) error) error {
	for {
		taken, err := p.Acquire(ctx)
		switch {
		case errors.Is(err, errElsewhere):
		case err != nil:
			return explainRefusal(err)
		case taken.Conn().IsClosed(): // by ping
			taken.Hijack()
		default:
			c := &postgresConn{Conn: taken.Conn(), taken: taken, pool: p}
			defer c.giveBack()
			return do(c)
		}
	}
}

// ping sees before a connection is used again whether it still can be, and closes it if not.
func (p *postgresPool) ping(ctx context.Context, used pgxpool.ShouldPingParams) (again bool) {
	bad := p.replace(used.Conn)
	if !bad && used.IdleDuration <= pingAfter {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	if !bad {
		err := used.Conn.Ping(ctx)
		p.distrust(used.Conn, err)
		bad = err != nil
	}
	if bad {
		_ = used.Conn.Close(ctx)
	}
	return false
}

func (p *postgresPool) stats() sql.DBStats {
	s := p.Stat()
	return sql.DBStats{
		MaxOpenConnections: int(s.MaxConns()), OpenConnections: int(s.TotalConns()),
		InUse: int(s.AcquiredConns()), Idle: int(s.IdleConns()),
		WaitCount: s.EmptyAcquireCount() + s.CanceledAcquireCount(), WaitDuration: s.EmptyAcquireWaitTime(),
	}
}

func (p *postgresPool) close() error {
	p.Close()
	return nil
}

// postgresConn is a connection of the pool.
type postgresConn struct {
	*pgx.Conn

	taken *pgxpool.Conn
	pool  *postgresPool
}

// giveBack has a broken connection leave the pool at once; the pool itself would wait until
// it is closed, for which a server that is silent has 15 s.
func (c *postgresConn) giveBack() {
	if c.IsClosed() {
		c.taken.Hijack()
		return
	}
	c.taken.Release()
}

func (c *postgresConn) send(ctx context.Context, statements []statement) (err error) {
	defer func() { c.pool.distrust(c.Conn, err) }()
	last := statements[len(statements)-1]
	byItself := last.byValues || len(statements) == 1 && last.tag == ""
	if byItself {
		statements = statements[:len(statements)-1]
	}
	if len(statements) > 0 {
		var batch pgx.Batch
		for _, s := range statements {
			batch.Queue(s.query, s.args...).Query(s.read)
		}
		if err := c.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
	}
	if !byItself {
		return nil
	}
	if last.byValues { // no batch can do that
		last.args = append([]any{pgx.QueryExecModeCacheDescribe}, last.args...)
	}
	all, err := c.Query(ctx, last.query, last.args...)
	if err != nil {
		return err
	}
	defer all.Close()
	return last.read(all)
}

func (s statement) read(all pgx.Rows) error {
	for all.Next() {
		if s.each == nil {
			continue
		}
		if err := s.each(all); err != nil {
			return err
		}
	}
	if err := all.Err(); err != nil {
		return err
	}
	if s.tag != "" && all.CommandTag().String() != s.tag {
		return pgx.ErrTxCommitRollback
	}
	if s.n != nil {
		*s.n = int(all.CommandTag().RowsAffected())
	}
	return nil
}

func (*postgresConn) begin() string { return "BEGIN" }

func (c *postgresConn) rollBack(ctx context.Context) {
	const idle = 'I'
	if c.IsClosed() || c.PgConn().TxStatus() == idle {
		return
	}
	if _, err := c.Exec(ctx, "ROLLBACK"); err != nil {
		_ = c.Close(ctx)
	}
}

// explainRefusal adds to the refusal of a PostgreSQL, or a PgBouncer, that has no
// connection left to give what the operator can do about it.
func explainRefusal(err error) error {
	const tooManyConnections = "53300"
	var answer *pgconn.PgError
	if !errors.As(err, &answer) || answer.Code != tooManyConnections && !strings.Contains(answer.Message, "max_client_conn") {
		return err
	}
	return fmt.Errorf("%w: lower RELAY_DATABASE_MAX_CONNS, run fewer processes, or raise the limit of PostgreSQL or PgBouncer", err)
}

// HasSession says whether a connection leads to a server of its own; through a pooler the next
// statement may be another server's.
func HasSession(ctx context.Context, pool *sql.DB) (own bool, err error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	err = conn.Raw(func(raw any) error {
		pg, ok := raw.(*stdlib.Conn)
		if !ok { // SQLite has no poolers
			own = true
			return nil
		}
		var server uint32
		err := pg.Conn().QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&server)
		own = server == pg.Conn().PgConn().PID()
		return err
	})
	return own, err
}
