package sqldb

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// PostgreSQL takes the values of many rows as one array for each column: it
// parses and plans as little for a thousand rows as for one. They are written
// here, for pgx would allocate for every value.
// https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
//
// A single value or row is not written so: a kept plan takes an array for ten values,
// so PostgreSQL prefers to plan anew for one, each time.

// arrays says whether values of many rows travel as arrays.
func (d *Dialect) arrays() bool { return d.maxParameters == 0 }

// arrays appends rows of parameters as one array for each column, and returns
// them for unnest.
func (a *Args) arrays(rows [][]any) string {
	holders := make([]string, len(rows[0]))
	var element []byte
	for j := range holders {
		size := 0
		for _, row := range rows {
			size += sizeOf(row[j])
		}
		var array strings.Builder
		array.Grow(size + 1)
		for i, row := range rows {
			array.WriteByte("{,"[min(i, 1)])
			element = appendElement(element[:0], row[j])
			array.Write(element)
		}
		array.WriteByte('}')
		holders[j] = "CAST(" + a.Add(array.String()) + " AS " + typeOf(rows[0][j]) + "[])"
	}
	return strings.Join(holders, ", ")
}

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

// arrayOf is an array of texts or UUIDs.
func arrayOf[T string | UUID](values []T) string {
	array := make([]byte, 1, 2+(2*len(UUID{})+1)*len(values))
	array[0] = '{'
	for i, value := range values {
		if i > 0 {
			array = append(array, ',')
		}
		array = appendElement(array, value)
	}
	return string(append(array, '}'))
}

// jsonArray is an array of texts as SQLite takes it.
func jsonArray(values []string) string {
	array, err := json.Marshal(values)
	if err != nil {
		panic(err) // texts are always JSON
	}
	return string(array)
}

// sizeOf is about how long a value is in an array, the comma before it included.
func sizeOf(value any) int {
	switch value := value.(type) {
	case string:
		return len(value) + len(`,""`)
	case []byte:
		return hex.EncodedLen(len(value)) + len(`,"\\x"`)
	}
	return 2*len(UUID{}) + 1 // most are that, or shorter
}

// appendElement writes a value that has a typeOf into an array.
func appendElement(array []byte, value any) []byte {
	switch value := value.(type) {
	case string:
		return appendText(array, value)
	case *string:
		if value != nil {
			return appendText(array, *value)
		}
	case UUID:
		if value != (UUID{}) {
			return hex.AppendEncode(array, value[:])
		}
	case int:
		return strconv.AppendInt(array, int64(value), 10)
	case int64:
		return strconv.AppendInt(array, value, 10)
	case *int64:
		if value != nil {
			return strconv.AppendInt(array, *value, 10)
		}
	case bool:
		return strconv.AppendBool(array, value)
	case []byte:
		return append(hex.AppendEncode(append(array, `"\\x`...), value), '"')
	}
	return append(array, "NULL"...)
}

// appendText writes a text in quotes.
func appendText(array []byte, text string) []byte {
	array = append(array, '"')
	for {
		special := strings.IndexAny(text, `"\`)
		if special < 0 {
			return append(append(array, text...), '"')
		}
		array = append(append(array, text[:special]...), '\\', text[special])
		text = text[special+1:]
	}
}

// keptArray is up to which length of an array the kept plan of a statement is used,
// which takes each array for one of ten values: for 64 UUIDs, as many as a commit of attempts
// has. To plan costs another round trip.
const keptArray = 2200

// byValues says whether PostgreSQL is to plan a statement for the arrays that are sent with
// it, if they are long: it compares with a thousand values one by one, but for those that it
// knows when it plans.
func (d *Dialect) byValues(args []any) bool {
	return d.arrays() && slices.ContainsFunc(args, func(arg any) bool {
		text, ok := arg.(string)
		return ok && len(text) > keptArray && text[0] == '{'
	})
}
