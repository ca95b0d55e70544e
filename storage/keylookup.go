package storage

import (
	"context"
	"fmt"
	"strings"
)

// lookedUpMost is how many keys are looked up at once.
const lookedUpMost = 128

// lookUp is a key that a request presented.
type lookUp struct {
	hash []byte
	key  Key
	err  error
	done chan struct{} // closed when key and err are final
}

// lookUpKey finds the key of a hash; ErrNotFound if there is none, or no more.
// The look-ups of requests that come together share a query which begins after
// each of them: nothing is remembered, so a revoked key is refused at once.
func (db *database) lookUpKey(ctx context.Context, hash []byte) (Key, error) {
	l := &lookUp{hash: hash, done: make(chan struct{})}
	db.lookingUp.add(l)
	select {
	case <-l.done:
		return l.key, l.err
	case <-ctx.Done():
		return Key{}, ctx.Err()
	}
}

func (db *database) lookUpTogether(group []*lookUp) {
	found := make(map[string]Key, len(group))
	holders := make([]string, len(group))
	var args arguments
	for i, l := range group {
		holders[i] = args.add(l.hash)
	}
	err := protected(func() error {
		_, err := queryAll(context.Background(), db.read, func(row scanner) (struct{}, error) {
			var hash []byte
			key, err := scanKey(afterColumn{row, &hash})
			found[string(hash)] = key
			return struct{}{}, err
		}, `SELECT k.hash, `+keyColumns+`WHERE k.hash IN (`+strings.Join(holders, ", ")+`) AND k.revoked_at IS NULL`, args...)
		return err
	})
	for _, l := range group {
		key, ok := found[string(l.hash)]
		switch {
		case err != nil:
			l.err = fmt.Errorf("look up: %w", err)
		case !ok:
			l.err = ErrNotFound
		}
		l.key = key
		close(l.done)
	}
}

// afterColumn is a row whose first column goes elsewhere.
type afterColumn struct {
	row   scanner
	first any
}

// Scan reads the columns after the first.
func (a afterColumn) Scan(dest ...any) error { return a.row.Scan(append([]any{a.first}, dest...)...) }
