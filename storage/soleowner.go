package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Reclaim frees what a process left behind that died: leases, and idempotency
// keys without an answer. Call it only when no other process uses the database,
// as with SQLite at a start; where there are others, leases and reservations run
// out by themselves.
func (s *Store) Reclaim(ctx context.Context) error {
	err := s.write(ctx, func(tx *transaction) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM idempotency_keys WHERE answer IS NULL`); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE work_groups SET owner = '', leased_until = 0 WHERE leased_until > 0`)
		return err
	})
	if err != nil {
		return fmt.Errorf("reclaim: %w", err)
	}
	return nil
}

// CheckKeys says which keys the keyring lacks to open the secrets of credentials
// and destinations: one secret is opened for each key that sealed any.
func (s *Store) CheckKeys(ctx context.Context) error {
	faults := map[string]error{} // by the key's id
	for _, kept := range []struct {
		query string
		place func(id string) string
	}{
		{`SELECT id, secret FROM credentials WHERE deleted_at IS NULL`, credentialSecret},
		{`SELECT id, secret FROM destinations WHERE deleted_at IS NULL`, destinationSecret},
	} {
		_, err := queryAll(ctx, s.reader(), func(row scanner) (struct{}, error) {
			var id string
			var sealed []byte
			if err := row.Scan(&id, &sealed); err != nil {
				return struct{}{}, err
			}
			key := sealedWith(sealed)
			if _, checked := faults[key]; !checked {
				_, faults[key] = s.db.keys.Open(kept.place(id), sealed)
			}
			return struct{}{}, nil
		}, kept.query)
		if err != nil {
			return fmt.Errorf("check the encryption keys: %w", err)
		}
	}
	var all []error
	for _, key := range slices.Sorted(maps.Keys(faults)) {
		all = append(all, faults[key])
	}
	if err := errors.Join(all...); err != nil {
		return fmt.Errorf("the encryption keys do not open what the database holds: %w", err)
	}
	return nil
}
