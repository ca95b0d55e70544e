package storage

import "time"

// Scope is what an API key may do; each scope includes the ones before it.
type Scope string

// The scopes, from the least to the most.
const (
	ScopeRead  Scope = "read"
	ScopeWrite Scope = "write"
	ScopeAdmin Scope = "admin"
)

// Key is an API key without its secret, which is only kept as a hash.
type Key struct {
	ID         string
	TenantID   string
	TenantName string
	Name       string
	Scopes     []Scope
	CreatedAt  time.Time
	LastUsedAt time.Time // to the minute; zero if never used
}

// NewAPIKey is what a key is made from.
type NewAPIKey struct {
	TenantID string
	Name     string
	Scopes   []Scope
}
