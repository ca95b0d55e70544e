package sqldb

import (
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"
)

// UUID is 16 bytes: a uuid of PostgreSQL, a BLOB of SQLite. Both compare it byte by byte. The
// zero UUID is NULL, so no row is found by it.
type UUID [16]byte

// Value implements driver.Valuer, for SQLite.
func (u UUID) Value() (driver.Value, error) {
	if u == (UUID{}) {
		return nil, nil //nolint:nilnil // is NULL
	}
	return u[:], nil
}

// UUIDValue implements pgtype.UUIDValuer, for PostgreSQL.
func (u UUID) UUIDValue() (pgtype.UUID, error) {
	return pgtype.UUID{Bytes: u, Valid: u != UUID{}}, nil
}

// ReadUUID is a column of a UUID, which is handed to read.
func ReadUUID(read func(UUID)) sql.Scanner { return uuidColumn(read) }

type uuidColumn func(UUID)

// Scan implements sql.Scanner, for SQLite, and for a NULL of PostgreSQL that has no type.
func (c uuidColumn) Scan(value any) error {
	var u UUID
	switch value := value.(type) {
	case nil:
	case []byte:
		if copy(u[:], value) != len(value) || len(value) != len(u) {
			return fmt.Errorf("a UUID of %d bytes", len(value))
		}
	default:
		return fmt.Errorf("a UUID of type %T", value)
	}
	c(u)
	return nil
}

// ScanUUID implements pgtype.UUIDScanner.
func (c uuidColumn) ScanUUID(value pgtype.UUID) error {
	c(value.Bytes)
	return nil
}
