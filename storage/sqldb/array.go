package sqldb

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// PostgreSQL takes the values of many rows as one array for each column: it
// parses and plans as little for a thousand rows as for one.
//
// A single value or row is not written so: a kept plan takes an array for ten values,
// so PostgreSQL prefers to plan anew for one, each time.

// arrays says whether values of many rows travel as arrays.
func (d *Dialect) arrays() bool { return d.maxParameters == 0 }

// arrays appends rows of parameters as one array for each column, and returns
// them for unnest.
func (a *Args) arrays(rows [][]any) string {
	holders := make([]string, len(rows[0]))
	for j, value := range rows[0] {
		holders[j] = "CAST(" + a.Add(valuesOf{rows, j}) + " AS " + typeOf(value) + "[])"
	}
	return strings.Join(holders, ", ")
}

// valuesOf is the values of a column, as an array for pgx.
type valuesOf struct {
	rows   [][]any
	column int
}

// Dimensions implements pgtype.ArrayGetter.
func (v valuesOf) Dimensions() []pgtype.ArrayDimension {
	return []pgtype.ArrayDimension{{Length: int32(len(v.rows)), LowerBound: 1}}
}

// Index implements pgtype.ArrayGetter.
func (v valuesOf) Index(i int) any { return v.rows[i][v.column] }

// IndexType implements pgtype.ArrayGetter.
func (v valuesOf) IndexType() any { return v.Index(0) }

// typed appends one row of parameters and returns it for VALUES.
func (a *Args) typed(row []any) string {
	holders := make([]string, len(row))
	for i, value := range row {
		holders[i] = "CAST(" + a.Add(value) + " AS " + typeOf(value) + ")"
	}
	return "(" + strings.Join(holders, ", ") + ")"
}

// typeOf is the type of a value in SQL. NULL has one too: it is a nil pointer.
func typeOf(value any) string {
	switch value.(type) {
	case string, *string:
		return "TEXT"
	case UUID:
		return "UUID"
	case int, int64, *int64:
		return "BIGINT"
	case bool:
		return "BOOLEAN"
	case []byte:
		return "BYTEA"
	}
	panic(fmt.Sprintf("sqldb: no column holds a %T", value)) // a mistake of ours, which every use of the statement meets
}

// jsonArray is an array of texts or numbers as SQLite takes it.
func jsonArray[T string | *int64](values []T) string {
	array, err := json.Marshal(values)
	if err != nil {
		panic(err) // both are always JSON
	}
	return string(array)
}

// keptArray is up to which length of an array the kept plan of a statement is used, which
// takes each array for one of ten values: as many as a commit of attempts has. To plan costs
// another round trip.
const keptArray = 64

// byValues says whether PostgreSQL is to plan a statement for the arrays that are sent with
// it, if they are long: it compares with a thousand values one by one, but for those that it
// knows when it plans.
func (d *Dialect) byValues(args []any) bool {
	return d.arrays() && slices.ContainsFunc(args, func(arg any) bool {
		switch arg := arg.(type) {
		case []UUID:
			return len(arg) > keptArray
		case []string:
			return len(arg) > keptArray
		case []*int64:
			return len(arg) > keptArray
		case valuesOf:
			return len(arg.rows) > keptArray
		}
		return false
	})
}
