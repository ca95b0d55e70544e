package storage

import (
	"context"
	"fmt"
	"time"
)

// Tenant owns everything else; a key sees only its own tenant's rows.
type Tenant struct {
	ID        string
	Name      string
	CreatedAt time.Time
}

// EnsureTenant returns the tenant of that name, making it if there is none.
func (s *Store) EnsureTenant(ctx context.Context, name string) (Tenant, error) {
	var tenant Tenant
	err := s.write(ctx, func(tx *transaction) error {
		err := tx.later(ctx, `INSERT INTO tenants (id, name, created_at) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO NOTHING`, newID(prefixTenant), name, tx.db.now().UnixMicro())
		if err != nil {
			return err
		}
		tenant, err = queryOne(ctx, tx, scanTenant, `SELECT id, name, created_at FROM tenants WHERE name = $1`, name)
		return err
	})
	if err != nil {
		return Tenant{}, fmt.Errorf("ensure tenant %s: %w", name, err)
	}
	return tenant, nil
}

func scanTenant(row scanner) (Tenant, error) {
	var t Tenant
	err := row.Scan(&t.ID, &t.Name, timeColumn{&t.CreatedAt})
	return t, err
}
