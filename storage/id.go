package storage

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"go.jetify.com/typeid/v2"
)

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

// datedID makes a TypeID of a row whose created_at is at: lists by time, and retention, go by
// the id, see firstID. Ids of one time sort in the order in which this process made them.
func (db *database) datedID(prefix string, at time.Time) string {
	id := uuidAt(at)
	// A version 7 UUID of a counter of 32 bits and 42 random ones (RFC 9562, section 6.2, method 1).
	n := db.ids.Add(1)
	rand.Read(id[10:]) // never fails, see its documentation
	id[6] = 0x70 | byte(n>>28)
	id[7] = byte(n >> 20)
	id[8] = 0x80 | byte(n>>14)&0x3f
	id[9] = byte(n >> 6)
	id[10] = byte(n<<2) | id[10]&0x03
	return idOf(prefix, id)
}

// firstID sorts before all ids that datedID makes at a time to the millisecond, or later, and
// after those before it.
func firstID(prefix string, at time.Time) string { return idOf(prefix, uuidAt(at)) }

// uuidAt is the least UUID of a time, which its first 48 bits hold in milliseconds.
func uuidAt(at time.Time) (id [16]byte) {
	const last = 1<<48 - 1
	binary.BigEndian.PutUint64(id[:], uint64(min(max(at.UnixMilli(), 0), last))<<16)
	return id
}

func idOf(prefix string, id [16]byte) string {
	made, err := typeid.FromBytes(prefix, id[:])
	if err != nil {
		panic(err) // of a prefix that is none
	}
	return made.String()
}

// nextID is the id after another: no row has it, for ids are random.
func nextID(prefix, id string) string {
	known, err := typeid.Parse(id)
	if err != nil {
		return id
	}
	next := [16]byte(known.Bytes())
	for i := len(next) - 1; i >= 0; i-- {
		if next[i]++; next[i] != 0 {
			break
		}
	}
	return idOf(prefix, next)
}
