package sqldb

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// Row is a row of a query: *sql.Rows or pgx.Rows.
type Row interface{ Scan(into ...any) error }

// Int reads a row of one number.
func Int(row Row) (int64, error) {
	var n int64
	err := row.Scan(&n)
	return n, err
}

// String reads a row of one text.
func String(row Row) (string, error) {
	var text string
	err := row.Scan(&text)
	return text, err
}

// Micros is how a time is written: microseconds since the epoch, NULL for the zero time.
func Micros(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	micros := t.UnixMicro()
	return &micros
}

// Time reads what Micros wrote.
func Time(into *time.Time) sql.Scanner { return timeColumn{into} }

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

// ScanInt64 implements pgtype.Int64Scanner, as Scan with fewer allocations.
func (c timeColumn) ScanInt64(micros pgtype.Int8) error {
	*c.into = time.Time{}
	if micros.Valid {
		*c.into = time.UnixMicro(micros.Int64).UTC()
	}
	return nil
}

// Null writes "" as NULL.
func Null(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// Text reads what Null wrote.
func Text(into *string) sql.Scanner { return textColumn{into} }

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

// ScanText implements pgtype.TextScanner, as Scan with fewer allocations.
func (c textColumn) ScanText(text pgtype.Text) error {
	*c.into = text.String
	return nil
}

// ReadInt is a column of a number, 0 for NULL, which is handed to read.
func ReadInt(read func(int64)) sql.Scanner { return intReader(read) }

type intReader func(int64)

// Scan implements sql.Scanner.
func (r intReader) Scan(value any) error {
	var number sql.NullInt64
	err := number.Scan(value)
	r(number.Int64)
	return err
}

// ScanInt64 implements pgtype.Int64Scanner, as Scan with fewer allocations.
func (r intReader) ScanInt64(number pgtype.Int8) error {
	r(number.Int64)
	return nil
}

// ReadText is a column of a text, "" for NULL, which is handed to read.
func ReadText(read func(string)) sql.Scanner { return textReader(read) }

type textReader func(string)

// Scan implements sql.Scanner.
func (r textReader) Scan(value any) error {
	var text sql.NullString
	err := text.Scan(value)
	r(text.String)
	return err
}

// ScanText implements pgtype.TextScanner, as Scan with fewer allocations.
func (r textReader) ScanText(text pgtype.Text) error {
	r(text.String)
	return nil
}

// Clean makes text from outside storable: PostgreSQL takes neither NUL nor
// invalid UTF-8, and a result that cannot be written would come again forever.
func Clean(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\uFFFD"), "\uFFFD")
}

// JSONText writes a value as JSON, without escaping HTML.
func JSONText(value any) (string, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(text.Bytes(), []byte("\n"))), nil
}

// JSON reads what JSONText wrote.
func JSON(into any) sql.Scanner { return jsonColumn{into} }

type jsonColumn struct{ into any }

// Scan implements sql.Scanner.
func (c jsonColumn) Scan(value any) error {
	var text sql.NullString
	if err := text.Scan(value); err != nil {
		return err
	}
	return json.Unmarshal([]byte(text.String), c.into)
}

// ScanText implements pgtype.TextScanner, as Scan with fewer allocations.
func (c jsonColumn) ScanText(text pgtype.Text) error {
	return json.Unmarshal([]byte(text.String), c.into)
}
