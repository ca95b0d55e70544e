package storage

import (
	"context"
	"fmt"
)

// Reclaim frees what a process left behind that died: leases, and idempotency
// keys without an answer. Call it only when no other process uses the database,
// as with SQLite at a start; where there are others, leases and reservations run
// out by themselves.
func (s *Store) Reclaim(ctx context.Context) error {
	err := s.write(ctx, func(tx *transaction) error {
		if err := tx.later(ctx, `DELETE FROM idempotency_keys WHERE answer IS NULL`); err != nil {
			return err
		}
		err := tx.later(ctx, `UPDATE work_groups SET owner = '', leased_until = 0 WHERE leased_until > 0`)
		return err
	})
	if err != nil {
		return fmt.Errorf("reclaim: %w", err)
	}
	return nil
}
