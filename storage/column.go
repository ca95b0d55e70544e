package storage

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.jetify.com/typeid/v2"
)

// scanner is a row: *sql.Rows or pgx.Rows.
type scanner interface{ Scan(into ...any) error }

// scanInt reads a row of one number.
func scanInt(row scanner) (int64, error) {
	var n int64
	err := row.Scan(&n)
	return n, err
}

// scanString reads a row of one text column.
func scanString(row scanner) (string, error) {
	var text string
	err := row.Scan(&text)
	return text, err
}

// scanBytes reads a row of one column of bytes.
func scanBytes(row scanner) ([]byte, error) {
	var value []byte
	err := row.Scan(&value)
	return value, err
}

// scanTime reads a row of one instant.
func scanTime(row scanner) (at time.Time, err error) {
	err = row.Scan(timeColumn{&at})
	return at, err
}

// instant writes a time: microseconds since the epoch, NULL for the zero time.
func instant(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	micros := t.UnixMicro()
	return &micros
}

// timeColumn reads what instant wrote.
type timeColumn struct{ into *time.Time }

// Scan implements sql.Scanner.
func (c timeColumn) Scan(value any) error {
	*c.into = time.Time{}
	if value == nil {
		return nil
	}
	micros, ok := value.(int64)
	if !ok {
		return fmt.Errorf("a time of type %T", value)
	}
	*c.into = time.UnixMicro(micros).UTC()
	return nil
}

// textColumn reads a text that may be NULL, which is "".
type textColumn struct{ into *string }

// Scan implements sql.Scanner.
func (c textColumn) Scan(value any) error {
	var text sql.NullString
	if err := text.Scan(value); err != nil {
		return err
	}
	*c.into = text.String
	return nil
}

// clean makes text from outside storable: PostgreSQL takes neither NUL nor
// invalid UTF-8, and a result that cannot be written would come again forever.
func clean(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\uFFFD"), "\uFFFD")
}

// nullable writes "" as NULL.
func nullable(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// jsonText writes a value as JSON, without escaping HTML.
func jsonText(value any) (string, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(text.Bytes(), []byte("\n"))), nil
}

// jsonColumn reads what jsonText wrote.
type jsonColumn struct{ into any }

// Scan implements sql.Scanner.
func (c jsonColumn) Scan(value any) error {
	var text sql.NullString
	if err := text.Scan(value); err != nil {
		return err
	}
	return json.Unmarshal([]byte(text.String), c.into)
}

// The prefixes of ids.
const (
	prefixTenant      = "tenant"
	prefixKey         = "key"
	prefixCredential  = "credential"
	prefixDestination = "destination"
	prefixOperation   = "operation"
	prefixWatch       = "watch"
	prefixEvent       = "event"
	prefixDelivery    = "delivery"
)

// newID makes a TypeID, https://github.com/jetify-com/typeid: later ids sort after earlier ones.
func newID(prefix string) string { return typeid.MustGenerate(prefix).String() }
