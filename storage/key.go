package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// Scope is what an API key may do; each scope includes the ones before it.
type Scope string

// The scopes, from the least to the most.
const (
	ScopeRead  Scope = "read"
	ScopeWrite Scope = "write"
	ScopeAdmin Scope = "admin"
)

// lastUsedEvery is how exact Key.LastUsedAt is: a write per request would cost
// more than the request.
const lastUsedEvery = time.Minute

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

const (
	keyColumns = `k.id, k.tenant_id, t.name, k.name, k.scopes, k.created_at, k.last_used_at
	FROM api_keys k JOIN tenants t ON t.id = k.tenant_id `
	selectKey = `SELECT ` + keyColumns
)

func scanKey(row scanner) (Key, error) {
	var k Key
	var scopes string
	err := row.Scan(&k.ID, &k.TenantID, &k.TenantName, &k.Name, &scopes,
		timeColumn{&k.CreatedAt}, timeColumn{&k.LastUsedAt})
	for scope := range strings.SplitSeq(scopes, ",") {
		k.Scopes = append(k.Scopes, Scope(scope))
	}
	return k, err
}

// HasKeys says whether there ever was an API key, revoked ones included: so
// revoking the last key does not look like a first start.
func (s *Store) HasKeys(ctx context.Context) (bool, error) {
	some, err := queryAll(ctx, s.reader(), scanString, `SELECT id FROM api_keys LIMIT 1`)
	if err != nil {
		return false, fmt.Errorf("has keys: %w", err)
	}
	return len(some) > 0, nil
}

// CreateKey makes an API key: 32 random bytes of which only the hash is kept,
// so the Secret that it returns is shown this once.
func (s *Store) CreateKey(ctx context.Context, n NewAPIKey) (Key, Secret, error) {
	random := make([]byte, 32)
	rand.Read(random) // never fails, see its documentation
	secret := "relay_" + base64.RawURLEncoding.EncodeToString(random)
	scopes := make([]string, len(n.Scopes))
	for i, scope := range n.Scopes {
		scopes[i] = string(scope)
	}
	id := newID(prefixKey)
	var key Key
	err := s.write(ctx, func(tx *transaction) error {
		_, err := queryOne(ctx, tx, scanString, `SELECT id FROM tenants WHERE id = $1`, n.TenantID)
		if err != nil {
			return err
		}
		err = tx.later(ctx, `INSERT INTO api_keys (id, tenant_id, name, scopes, hash, created_at)
			VALUES ($1, $2, $3, $4, $5, $6)`,
			id, n.TenantID, n.Name, strings.Join(scopes, ","), hashKey(secret), tx.db.now().UnixMicro())
		if err != nil {
			return err
		}
		key, err = queryOne(ctx, tx, scanKey, selectKey+`WHERE k.id = $1`, id)
		return err
	})
	if err != nil {
		return Key{}, "", fmt.Errorf("create key for %s: %w", n.TenantID, err)
	}
	return key, Secret(secret), nil
}

func hashKey(presented string) []byte {
	hash := sha256.Sum256([]byte(presented))
	return hash[:]
}

// Keys lists the tenant's keys, newest first, without revoked ones.
func (s *Store) Keys(ctx context.Context, tenantID string, page Page) (List[Key], error) {
	keys, err := queryPage(ctx, s.reader(), pageQuery[Key]{
		selection: selectKey + `WHERE k.revoked_at IS NULL`, scan: scanKey, id: func(k Key) string { return k.ID },
		idColumn: "k.id", tenant: filter{column: "k.tenant_id", value: tenantID}, page: page,
	})
	if err != nil {
		return List[Key]{}, fmt.Errorf("list keys: %w", err)
	}
	return keys, nil
}

// AllKeys lists the keys of all tenants, oldest first, without revoked ones.
// It is for the operator's command line.
func (s *Store) AllKeys(ctx context.Context) ([]Key, error) {
	keys, err := queryAll(ctx, s.reader(), scanKey, selectKey+`WHERE k.revoked_at IS NULL ORDER BY k.id`)
	if err != nil {
		return nil, fmt.Errorf("list all keys: %w", err)
	}
	return keys, nil
}

// RevokeKey ends a key for good. A tenantID of "" means any tenant's, for the
// operator's command line.
func (s *Store) RevokeKey(ctx context.Context, tenantID, id string) error {
	err := s.write(ctx, func(tx *transaction) error {
		return exec(ctx, tx, `UPDATE api_keys SET revoked_at = $1
			WHERE id = $2 AND (tenant_id = $3 OR $4) AND revoked_at IS NULL`,
			tx.db.now().UnixMicro(), id, tenantID, tenantID == "")
	})
	if err != nil {
		return fmt.Errorf("revoke key %s: %w", id, err)
	}
	return nil
}

// Authenticate returns the key that was presented; ErrNotFound if there is no
// such key, or no more. The hash is looked up in an index, whose time may tell
// how much of it is like a stored one: that helps nobody, who cannot choose what
// a guess hashes to and would have to guess 32 random bytes at once. A comparison
// in constant time after the look-up would compare what is equal already.
func (s *Store) Authenticate(ctx context.Context, presented string) (Key, error) {
	key, err := s.db.lookUpKey(ctx, hashKey(presented))
	if err != nil {
		return Key{}, fmt.Errorf("authenticate: %w", err)
	}
	now := s.db.now()
	if now.Sub(key.LastUsedAt) < lastUsedEvery {
		return key, nil
	}
	err = s.write(ctx, func(tx *transaction) error {
		err := tx.later(ctx, `UPDATE api_keys SET last_used_at = $1
			WHERE id = $2 AND (last_used_at IS NULL OR last_used_at < $1)`, now.UnixMicro(), key.ID)
		return err
	})
	if err != nil {
		return Key{}, fmt.Errorf("authenticate %s: %w", key.ID, err)
	}
	key.LastUsedAt = now
	return key, nil
}
