package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// pastTables hold what was, each after those that it refers to.
func pastTables() []string {
	return []string{"watches", "operations", "watch_destinations", "watch_ends", "events", "deliveries", "attempts"}
}

const (
	// The past ended between so long ago and so long ago: retention as it is by default
	// would delete all of it.
	pastFrom, pastTo = 100 * 24 * time.Hour, 91 * 24 * time.Hour
	// pastAtOnce is about how many watches one transaction adds.
	pastAtOnce = 20_000
)

// past makes a long past out of a short one: the rows of all watches there are, which have
// ended, are copied, many times, inside the database, and are then no longer there
// themselves. A copy has ids and times of its own, as if the relay had written it in the
// past, in the order in which it would have, and bodies of the same length.
type past struct {
	*database

	b         *bench
	began     time.Time // before the first of the watches was registered
	templates int       // how many they are, each with one event and one delivery
	copies    int       // of each
}

func (p *past) watches() int64 { return int64(p.templates * p.copies) }

// make makes it and returns how many bytes it takes.
func (p *past) make(ctx context.Context) (bytes int64, err error) {
	if err := p.stage(ctx); err != nil {
		return 0, err
	}
	before, err := p.size(ctx)
	if err != nil {
		return 0, err
	}
	if err := p.copy(ctx); err != nil {
		return 0, err
	}
	if err := p.run(ctx, append([]string{fmt.Sprintf("UPDATE tenants SET event_seq = %d", p.watches())}, p.tidy...)...); err != nil {
		return 0, err
	}
	after, err := p.size(ctx)
	if err != nil {
		return 0, err
	}
	if err := p.sayTables(ctx); err != nil {
		return 0, err
	}
	statements := []string{"DROP TABLE past_copies"}
	for _, table := range pastTables() {
		statements = append(statements, "DROP TABLE past_"+table)
	}
	return after - before, p.run(ctx, statements...)
}

// sayTables says how many bytes each table has for a watch, as far as PostgreSQL tells.
func (p *past) sayTables(ctx context.Context) error {
	if !p.postgres {
		return nil
	}
	for _, table := range pastTables() {
		rows, err := p.number(ctx, "SELECT pg_table_size('"+table+"')")
		if err != nil {
			return err
		}
		indexes, err := p.number(ctx, "SELECT pg_indexes_size('"+table+"')")
		if err != nil {
			return err
		}
		p.b.sayf("    %s: %d bytes for each watch, and %d in indexes", table, rows/p.watches(), indexes/p.watches())
	}
	return nil
}

// copy copies what is put aside.
func (p *past) copy(ctx context.Context) error {
	var inserts []string
	for _, table := range pastTables() {
		insert, err := p.insert(ctx, table)
		if err != nil {
			return err
		}
		inserts = append(inserts, insert)
	}
	step, said := max(1, pastAtOnce/p.templates), 0
	for from := 0; from < p.copies; from += step {
		if err := p.inTransaction(ctx, inserts, from, min(from+step, p.copies)); err != nil {
			return err
		}
		if tenth := from * 10 / p.copies; tenth != said {
			said = tenth
			p.b.sayf("    %d of %d ended watches are there", from*p.templates, p.watches())
		}
	}
	return nil
}

// stage puts aside what is copied, and in what each copy differs: how much older it is,
// the milliseconds in its ids, and the half of its operations' ids in the other API.
func (p *past) stage(ctx context.Context) error {
	var statements []string
	for _, table := range pastTables() {
		statements = append(statements, fmt.Sprintf("CREATE TABLE past_%[1]s AS SELECT * FROM %[1]s", table)) //nolint:unqueryvet // all of them
	}
	for _, table := range slices.Backward(pastTables()) {
		statements = append(statements, "DELETE FROM "+table)
	}
	statements = append(statements, "CREATE TABLE past_copies (n BIGINT PRIMARY KEY, older BIGINT, ms TEXT, half TEXT)")
	for n := range p.copies {
		older := pastFrom - (pastFrom-pastTo)/time.Duration(p.copies)*time.Duration(n)
		statements = append(statements, fmt.Sprintf("INSERT INTO past_copies VALUES (%d, %d, '%s', '%016x')",
			n, older.Microseconds(), idTime(p.began.Add(-older)), rand.Uint64()))
	}
	if err := p.inTransaction(ctx, statements); err != nil {
		return err
	}
	return p.run(ctx, p.tidy...)
}

// idTime is how the ids of a time begin, in hexadecimal digits: the first 48 bits are
// milliseconds.
func idTime(at time.Time) string { return fmt.Sprintf("%012x", at.UnixMilli()) }

// idDigits is how many digits follow.
const idDigits = 20

// insert is the statement that adds to a table the copies from $1 to before $2.
func (p *past) insert(ctx context.Context, table string) (string, error) {
	names, values, err := p.columns(ctx, table)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`INSERT INTO %[1]s (%[2]s) SELECT %[3]s FROM past_copies c CROSS JOIN past_%[1]s x
		WHERE c.n >= $1 AND c.n < $2 ORDER BY c.n, x.%[4]s`,
		table, strings.Join(names, ", "), strings.Join(values, ", "), names[0]), nil
}

// columns are a table's, and what each has in a copy.
func (p *past) columns(ctx context.Context, table string) (names, values []string, err error) {
	rows, err := p.QueryContext(ctx, "SELECT * FROM past_"+table) //nolint:unqueryvet // all of them
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	if names, err = rows.Columns(); err != nil {
		return nil, nil, err
	}
	seen := make([]any, len(names)) // of each column a value that is not NULL
	row, into := make([]any, len(names)), make([]any, len(names))
	for i := range row {
		into[i] = &row[i]
	}
	n := 0
	for ; rows.Next(); n++ {
		if err := rows.Scan(into...); err != nil {
			return nil, nil, err
		}
		for i, value := range row {
			if value != nil {
				seen[i] = value
			}
		}
	}
	if n != p.templates {
		return nil, nil, fmt.Errorf("%d rows of %s are of %d watches", n, table, p.templates)
	}
	for i, name := range names {
		values = append(values, p.value(name, seen[i]))
	}
	return names, values, rows.Err()
}

// value is what a copy has in a column, by what the others have there: an id of its own,
// an earlier time, an earlier place in the feed, or the same.
func (p *past) value(column string, example any) string {
	const time1980 = 315_532_800_000_000 // in microseconds: no other number is as large
	switch column {
	case "id", "watch_id", "event_id", "delivery_id", "operation_ref":
		return p.uuid("c.ms || substr(" + p.digits("x."+column) + ", 13)")
	case "operation_id":
		return fmt.Sprintf("substr(x.%s, 1, 16) || c.half", column)
	case "operation_hash", "account_hash":
		return p.random(1 << 62)
	case "seq":
		return fmt.Sprintf("x.seq + c.n * %d", p.templates)
	}
	if number, ok := example.(int64); ok && number > time1980 {
		return fmt.Sprintf("x.%s - c.older", column)
	}
	return "x." + column
}

// inTransaction runs statements, all with the same arguments.
func (p *past) inTransaction(ctx context.Context, statements []string, args ...any) error {
	tx, err := p.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement, args...); err != nil {
			return errors.Join(fmt.Errorf("%.500s: %w", statement, err), tx.Rollback())
		}
	}
	return tx.Commit()
}

// end sorts after all ids of its watches, and before those of what came later.
func (p *past) end() string {
	return p.uuid("'" + idTime(p.began.Add(-pastTo).Add(time.Minute)) + strings.Repeat("0", idDigits) + "'")
}

// first sorts after the first ids of the past.
func (p *past) first() string {
	return p.uuid("'" + idTime(p.began.Add(-pastFrom)) + strings.Repeat("f", idDigits) + "'")
}

// awaitOldest returns when no watch is left whose id sorts before the end.
func (p *past) awaitOldest(ctx context.Context, end string) (time.Time, error) {
	for {
		left, err := p.number(ctx, "SELECT count(*) FROM (SELECT id FROM watches WHERE id < "+end+" ORDER BY id LIMIT 1) AS oldest")
		if err != nil || left == 0 {
			return time.Now(), err
		}
		if err := pause(ctx, lookEvery); err != nil {
			return time.Time{}, err
		}
	}
}

// left is how many watches of the past are still there.
func (p *past) left(ctx context.Context) (int64, error) {
	return p.number(ctx, "SELECT count(*) FROM watches WHERE id < "+p.end())
}
