package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// account is whose operations all are.
const account = "023e105f4ecef8ad9ca31a8372d0c353"

// operation is one that the upstream's stand-in knows without having been told:
// its id, 32 hexadecimal digits as Cloudflare's, says all about it.
type operation struct {
	// ends is when it becomes terminal, in nanoseconds since 1970; held is when the
	// upstream is told to release what it holds.
	ends   int64
	number uint64
}

// held is when operations end that the upstream holds.
const held = 0

// until is the operation of the number that ends then.
func until(at time.Time, number uint64) operation { return operation{at.UnixNano(), number} }

// String is the operation's id.
func (o operation) String() string { return fmt.Sprintf("%016x%016x", uint64(o.ends), o.number) }

// parseOperation reads an operation's id.
func parseOperation(id string) (operation, error) {
	const digits = 16
	if len(id) != 2*digits {
		return operation{}, errors.New("not 32 digits")
	}
	ends, err := strconv.ParseInt(id[:digits], 16, 64)
	if err != nil {
		return operation{}, err
	}
	number, err := strconv.ParseUint(id[digits:], 16, 64)
	return operation{ends, number}, err
}
