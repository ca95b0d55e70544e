package storage

import (
	"errors"
	"testing"
)

// A panic in a look-up that requests share is an error of each, and ends nothing else.
func TestPanicInALookUpIsAnError(t *testing.T) {
	t.Parallel()
	db := &database{} // without any connections
	db.lookingUp = gathering[*lookUp]{do: db.lookUpTogether, most: lookedUpMost, atOnce: 1}
	for range 2 {
		if _, err := db.lookUpKey(t.Context(), []byte("hash")); err == nil || errors.Is(err, ErrNotFound) || Unavailable(err) {
			t.Errorf("%v, want a fault", err)
		}
	}
}
