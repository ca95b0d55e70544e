package sqldb

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"oprelay/deploy/testenv"
)

// numbered is a UUID that sorts as its number does.
func numbered(n int) UUID { return UUID{0: byte(n >> 8), 1: byte(n), 15: 0xff} }

type numberedRow struct{ id, of UUID }

func scanNumbered(row Row) (r numberedRow, err error) {
	err = row.Scan(ReadUUID(func(u UUID) { r.id = u }), ReadUUID(func(u UUID) { r.of = u }))
	return r, err
}

// Both databases keep 16 bytes, whether one row is written or many, compare them byte by byte, and
// take the zero UUID for NULL; through a pooler too, where PostgreSQL is told no types.
func TestUUIDs(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		t.Helper()
		kind := "UUID"
		if db.Name == "sqlite" {
			kind = "BLOB"
		}
		get(ExecCount(t.Context(), db.Writer(), fmt.Sprintf(`CREATE TABLE rows (id %[1]s PRIMARY KEY, of_one %[1]s)`, kind)))(t)
		const all = 600
		check(t, db.Transact(t.Context(), 0, func(tx *Tx) error {
			var rows [][]any
			for n := 1; n < all; n++ {
				rows = append(rows, []any{numbered(n), numbered(n % 2 * n)}) // numbered(0) is not zero
				if n%2 == 0 {
					rows[n-1][1] = UUID{}
				}
			}
			check(t, tx.InsertRows(`INSERT INTO rows (id, of_one)`, rows))
			check(t, tx.InsertRows(`INSERT INTO rows (id, of_one)`, [][]any{{numbered(all), UUID{}}}))
			return tx.UpdateRows(RowsUpdate{
				Head: `UPDATE rows SET of_one = v.column2`, Key: "rows.id", Tail: `WHERE TRUE`,
				Rows: [][]any{{numbered(2), numbered(1)}, {numbered(1), UUID{}}},
			})
		}))
		testUUIDConditions(t, db, all)
		testUUIDPages(t, db, all)
	})
}

// A condition on numbers finds those that are named, and a nil pointer is NULL, which none is.
func TestNumbers(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		t.Helper()
		get(ExecCount(t.Context(), db.Writer(), `CREATE TABLE rows (id BIGINT, of_one BIGINT)`))(t)
		check(t, db.Transact(t.Context(), 0, func(tx *Tx) error {
			return tx.InsertRows(`INSERT INTO rows (id, of_one)`, [][]any{
				{new(int64(1)), (*int64)(nil)}, {new(int64(2)), new(int64(1))}, {new(int64(math.MaxInt64)), new(int64(2))}, {(*int64)(nil), new(int64(3))},
			})
		}))
		for name, of := range map[string]struct{ values, want []int64 }{
			"none": {}, "NULL": {values: []int64{0}}, "one": {[]int64{2}, []int64{1}},
			"several": {[]int64{0, 7, math.MaxInt64, 1}, []int64{0, 2}},
		} {
			var values []*int64
			for _, n := range of.values {
				values = append(values, &n)
				if n == 0 {
					values[len(values)-1] = nil
				}
			}
			var args Args
			query := `SELECT of_one FROM rows WHERE ` + db.InNumbers(&args, "id", values) + ` ORDER BY id`
			found := get(All(t.Context(), db, func(row Row) (n int64, err error) {
				n = -1
				err = row.Scan(ReadInt(func(read int64) { n = read }))
				return n, err
			}, query, args...))(t)
			if !slices.Equal(found, of.want) {
				t.Errorf("%s: found %v, want %v", name, found, of.want)
			}
		}
	})
}

// onEach runs a test with each database, and with PostgreSQL behind a pooler.
func onEach(t *testing.T, test func(*testing.T, *DB)) {
	t.Helper()
	for name, url := range map[string]func() string{
		"sqlite":   func() string { return "sqlite:" + t.TempDir() + "/relay.db" },
		"postgres": func() string { return testenv.Postgres(t) },
		"pooler":   func() string { return testenv.StartPgBouncer(t, testenv.Postgres(t)).URL },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := get(Open(Config{URL: url()}))(t)
			t.Cleanup(func() { check(t, db.Close()) })
			test(t, db)
		})
	}
}

func testUUIDConditions(t *testing.T, db *DB, all int) {
	t.Helper()
	many := []UUID{{}}
	for n := 2; n <= all; n++ {
		many = append(many, numbered(n))
	}
	for name, values := range map[string][]UUID{
		"none": nil, "NULL": {{}}, "one": {numbered(2)}, "few": {numbered(3), {}, numbered(2)}, "many": many,
	} {
		var args Args
		query := `SELECT id, of_one FROM rows WHERE ` + db.In(&args, "id", values) + ` ORDER BY id`
		found := get(All(t.Context(), db, scanNumbered, query, args...))(t)
		var ids []UUID
		for _, row := range found {
			if ids = append(ids, row.id); row.id == numbered(2) && row.of != numbered(1) {
				t.Errorf("%s: the updated row has %x", name, row.of)
			}
		}
		want := slices.DeleteFunc(slices.Clone(values), func(u UUID) bool { return u == UUID{} })
		slices.SortFunc(want, func(a, b UUID) int { return bytes.Compare(a[:], b[:]) })
		if !slices.Equal(ids, want) {
			t.Errorf("%s: found %d rows, want %d", name, len(ids), len(want))
		}
	}
	null := get(One(t.Context(), db, Int, `SELECT COUNT(*) FROM rows WHERE of_one IS NULL`))(t)
	if equal := get(One(t.Context(), db, Int, `SELECT COUNT(*) FROM rows WHERE of_one = $1`, UUID{}))(t); null != int64(all)/2 || equal != 0 {
		t.Errorf("%d rows have NULL, and %d equal it", null, equal)
	}
}

func testUUIDPages(t *testing.T, db *DB, all int) {
	t.Helper()
	name := func(n int) string { return fmt.Sprintf("%04d", n) }
	list := PageQuery[numberedRow]{
		Selection: `SELECT id, of_one FROM rows WHERE TRUE`, Scan: scanNumbered, IDColumn: "id",
		ID: func(r numberedRow) string { return name(int(r.id[0])<<8 + int(r.id[1])) },
		Key: func(id string) UUID {
			n := 0
			if _, err := fmt.Sscanf(id, "%d", &n); err != nil {
				return UUID{}
			}
			return numbered(n)
		},
		Always: Filter{Column: "15", Value: 15},
	}
	for _, part := range []struct {
		after, before, from string
		first               string // of the page
	}{
		{first: name(all)},
		{after: name(7), first: name(6)},
		{before: name(9), first: name(8)},
		{after: name(7), before: name(9), first: name(6)},
		{after: name(9), before: name(7), first: name(6)},
		{from: name(6), after: name(6)},
		{after: "?"},
		{after: "?", before: name(9)},
		{after: name(9), before: "?"},
	} {
		list.Page, list.Bounds = Page{Limit: 2, After: part.after}, Bounds{From: part.from, Before: part.before}
		page := get(ReadPage(t.Context(), db, list))(t)
		first := ""
		if len(page.Data) > 0 {
			first = list.ID(page.Data[0])
		}
		if first != part.first {
			t.Errorf("%+v: the page begins with %q", part, first)
		}
	}
	list.Filters, list.Bounds, list.Page = []Filter{{}, {Column: "of_one", Value: numbered(1)}}, Bounds{}, Page{Limit: 9}
	if page := get(ReadPage(t.Context(), db, list))(t); len(page.Data) != 1 {
		t.Errorf("%d rows fit a filter for one", len(page.Data))
	}
}
