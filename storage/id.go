package storage

import (
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"strings"
	"time"

	"go.jetify.com/typeid/v2"
	"go.jetify.com/typeid/v2/base32"

	"oprelay/storage/sqldb"
)

// prefix is what ids of one noun begin with. Outside of SQL an id is a TypeID,
// https://github.com/jetify-com/typeid: the prefix and 16 bytes. In SQL it is these bytes alone, for it
// stands in some twenty entries of indexes for each watch. Both sort alike, by when they were made.
type prefix string

// The prefixes of ids.
const (
	prefixKey         prefix = "key"
	prefixCredential  prefix = "credential"
	prefixDestination prefix = "destination"
	prefixOperation   prefix = "operation"
	prefixWatch       prefix = "watch"
	prefixEvent       prefix = "event"
	prefixDelivery    prefix = "delivery"

	prefixTenant tenantPrefix = "tenant"
)

// arg is an id for SQL: NULL, by which nothing is found, if it is "" or no id of this prefix.
func (p prefix) arg(id string) (bytes sqldb.UUID) {
	suffix, ok := strings.CutPrefix(id, string(p)+"_")
	if !ok || suffix == "" || suffix[0] > '7' { // 26 letters have two bits more than 16 bytes
		return sqldb.UUID{}
	}
	if _, err := base32.Decode(bytes[:], []byte(suffix)); err != nil {
		return sqldb.UUID{}
	}
	return bytes
}

// value is arg, of whatever type.
func (p prefix) value(id string) any { return p.arg(id) }

// least is an argument that sorts before those of all ids.
func (prefix) least() any { return uuidAt(time.Time{}) }

func (p prefix) args(ids []string) []sqldb.UUID {
	all := make([]sqldb.UUID, len(ids))
	for i, id := range ids {
		all[i] = p.arg(id)
	}
	return all
}

// id is what arg had; "" for NULL.
func (p prefix) id(bytes sqldb.UUID) string {
	if bytes == (sqldb.UUID{}) {
		return ""
	}
	return string(base32.AppendEncode(append(make([]byte, 0, 40), p+"_"...), bytes))
}

// scan is the column of an id.
func (p prefix) scan(into *string) sql.Scanner {
	return sqldb.ReadUUID(func(bytes sqldb.UUID) { *into = p.id(bytes) })
}

// read reads a row of one id.
func (p prefix) read(row sqldb.Row) (id string, err error) {
	err = row.Scan(p.scan(&id))
	return id, err
}

// filter demands an id of a list; "" demands nothing.
func (p prefix) filter(column, id string) sqldb.Filter {
	if id == "" {
		return sqldb.Filter{}
	}
	return sqldb.Filter{Column: column, Value: p.arg(id)}
}

// tenantPrefix is what ids of tenants begin with. In SQL these are numbers that the database counts
// up, for one stands in seven rows and indexes for each watch, and SQLite needs a byte or two for it.
// The last 8 bytes of the TypeID are the number, and those before are zero.
type tenantPrefix string

// arg is an id for SQL: NULL, by which nothing is found, if it is "" or no id of a tenant.
func (p tenantPrefix) arg(id string) *int64 {
	bytes := prefix(p).arg(id)
	number := int64(binary.BigEndian.Uint64(bytes[numberAt:]))
	if number <= 0 || binary.BigEndian.Uint64(bytes[:numberAt]) != 0 {
		return nil
	}
	return &number
}

// numberAt is the byte at which the number of a tenant begins.
const numberAt = 8

// value is arg, of whatever type.
func (p tenantPrefix) value(id string) any { return p.arg(id) }

// least is an argument that sorts before those of all ids.
func (tenantPrefix) least() any { return 0 }

func (p tenantPrefix) args(ids []string) []*int64 {
	all := make([]*int64, len(ids))
	for i, id := range ids {
		all[i] = p.arg(id)
	}
	return all
}

// id is what arg had; "" for NULL, which is 0.
func (p tenantPrefix) id(number int64) string {
	var bytes sqldb.UUID
	binary.BigEndian.PutUint64(bytes[numberAt:], uint64(number))
	return prefix(p).id(bytes)
}

// scan is the column of an id.
func (p tenantPrefix) scan(into *string) sql.Scanner {
	return sqldb.ReadInt(func(number int64) { *into = p.id(number) })
}

// read reads a row of one id.
func (p tenantPrefix) read(row sqldb.Row) (id string, err error) {
	err = row.Scan(p.scan(&id))
	return id, err
}

// newID makes an id: later ones sort after earlier ones.
func newID(p prefix) string { return typeid.MustGenerate(string(p)).String() }

// datedID makes an id of a row whose created_at is at: lists by time, and retention, go by
// the id, see firstID. Ids of one time sort in the order in which this process made them.
func (db *database) datedID(p prefix, at time.Time) string {
	id := uuidAt(at)
	// A version 7 UUID of a counter of 32 bits and 42 random ones (RFC 9562, section 6.2, method 1).
	n := db.ids.Add(1)
	rand.Read(id[10:]) // never fails, see its documentation
	id[6] |= byte(n >> 28)
	id[7] = byte(n >> 20)
	id[8] |= byte(n>>14) & 0x3f
	id[9] = byte(n >> 6)
	id[10] = byte(n<<2) | id[10]&0x03
	return p.id(id)
}

// firstID sorts before all ids that datedID makes at a time to the millisecond, or later, and
// after those before it.
func firstID(p prefix, at time.Time) string { return p.id(uuidAt(at)) }

// uuidAt is the least UUID of version 7 of a time, which its first 48 bits hold in milliseconds.
func uuidAt(at time.Time) (id sqldb.UUID) {
	const last = 1<<48 - 1
	binary.BigEndian.PutUint64(id[:], uint64(min(max(at.UnixMilli(), 0), last))<<16)
	id[6], id[8] = 0x70, 0x80
	return id
}

// nextID is the id after another: no row has it, for ids are random.
func nextID(p prefix, id string) string {
	next := p.arg(id)
	for i := len(next) - 1; i >= 0; i-- {
		if next[i]++; next[i] != 0 {
			break
		}
	}
	return p.id(next)
}
