package storage

import "time"

// Tenant owns everything else; a key sees only its own tenant's rows.
type Tenant struct {
	ID        string
	Name      string
	CreatedAt time.Time
}
