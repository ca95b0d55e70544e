package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// Scope is what an API key may do; each scope includes the ones before it.
type Scope string

// The scopes, from the least to the most.
const (
	ScopeRead  Scope = "read"
	ScopeWrite Scope = "write"
	ScopeAdmin Scope = "admin"
)

// lastUsedEvery is how exact Key.LastUsedAt is. To write it for each request would cost more
// than the request.
const lastUsedEvery = time.Minute

// noteUseTime is how long a request waits for its key's LastUsedAt to be written.
const noteUseTime = time.Second

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

// May says whether the key's scopes reach the one that is needed.
func (k Key) May(needed Scope) bool {
	order := []Scope{ScopeRead, ScopeWrite, ScopeAdmin}
	return slices.ContainsFunc(k.Scopes, func(has Scope) bool {
		at := slices.Index(order, has)
		return at >= 0 && at >= slices.Index(order, needed)
	})
}

// NewAPIKey is what a key is made from.
type NewAPIKey struct {
	TenantID string
	Name     string
	Scopes   []Scope
}

const selectKey = `SELECT k.id, k.tenant_id, t.name, k.name, k.scopes, k.created_at, k.last_used_at
	FROM api_keys k JOIN tenants t ON t.id = k.tenant_id `

func scanKey(row sqldb.Row) (Key, error) {
	var k Key
	var scopes string
	err := row.Scan(prefixKey.scan(&k.ID), prefixTenant.scan(&k.TenantID), &k.TenantName, &k.Name, &scopes,
		sqldb.Time(&k.CreatedAt), sqldb.Time(&k.LastUsedAt))
	for scope := range strings.SplitSeq(scopes, ",") {
		k.Scopes = append(k.Scopes, Scope(scope))
	}
	return k, err
}

// HasKeys says whether there ever was an API key. Revoked ones count, so that revoking the
// last one does not look like a first start.
func (s *Store) HasKeys(ctx context.Context) (_ bool, err error) {
	defer wrapf(&err, "has keys")
	some, err := sqldb.All(ctx, s.reader(), prefixKey.read, `SELECT id FROM api_keys LIMIT 1`)
	return len(some) > 0, err
}

// CreateKey makes an API key of 32 random bytes. Only its hash is kept, so the Secret can be
// shown only now.
func (s *Store) CreateKey(ctx context.Context, n NewAPIKey) (_ Key, _ seal.Secret, err error) {
	defer wrapf(&err, "create key for %s", n.TenantID)
	random := make([]byte, 32)
	rand.Read(random) // never fails, see its documentation
	secret := "relay_" + base64.RawURLEncoding.EncodeToString(random)
	scopes := make([]string, len(n.Scopes))
	for i, scope := range n.Scopes {
		scopes[i] = string(scope)
	}
	id := newID(prefixKey)
	var key Key
	err = s.write(ctx, func(tx *transaction) error {
		_, err := sqldb.One(ctx, tx, prefixTenant.read, `SELECT id FROM tenants WHERE id = $1`, prefixTenant.arg(n.TenantID))
		if err != nil {
			return err
		}
		err = tx.Later(`INSERT INTO api_keys (id, tenant_id, name, scopes, hash, created_at)
			VALUES ($1, $2, $3, $4, $5, $6)`,
			prefixKey.arg(id), prefixTenant.arg(n.TenantID), n.Name, strings.Join(scopes, ","), hashKey(secret), tx.db.now().UnixMicro())
		if err != nil {
			return err
		}
		key, err = sqldb.One(ctx, tx, scanKey, selectKey+`WHERE k.id = $1`, prefixKey.arg(id))
		return err
	})
	return key, seal.Secret(secret), err
}

func hashKey(presented string) []byte {
	hash := sha256.Sum256([]byte(presented))
	return hash[:]
}

// Keys lists the tenant's keys, newest first, without revoked ones.
func (s *Store) Keys(ctx context.Context, tenantID string, page Page) (_ List[Key], err error) {
	defer wrapf(&err, "list keys")
	return sqldb.ReadPage(ctx, s.reader(), sqldb.PageQuery[Key]{
		Selection: selectKey + `WHERE k.revoked_at IS NULL`, Scan: scanKey, ID: func(k Key) string { return k.ID },
		Key: prefixKey.arg, IDColumn: "k.id",
		Always: sqldb.Filter{Column: "k.tenant_id", Value: prefixTenant.arg(tenantID)}, Page: page,
	})
}

// AllKeys lists the keys of all tenants, oldest first, without revoked ones, for the command
// line.
func (s *Store) AllKeys(ctx context.Context) (_ []Key, err error) {
	defer wrapf(&err, "list all keys")
	return sqldb.All(ctx, s.reader(), scanKey, selectKey+`WHERE k.revoked_at IS NULL ORDER BY k.id`)
}

// RevokeKey ends a key for good. A tenantID of "" is any tenant, for the command line.
func (s *Store) RevokeKey(ctx context.Context, tenantID, id string) (err error) {
	defer wrapf(&err, "revoke key %s", id)
	return s.write(ctx, func(tx *transaction) error {
		return sqldb.Exec(ctx, tx, `UPDATE api_keys SET revoked_at = $1
			WHERE id = $2 AND (tenant_id = $3 OR $4) AND revoked_at IS NULL`,
			tx.db.now().UnixMicro(), prefixKey.arg(id), prefixTenant.arg(tenantID), tenantID == "")
	})
}

// ValidKeys returns those of the ids that are keys and not revoked.
func (s *Store) ValidKeys(ctx context.Context, ids []string) (_ []string, err error) {
	defer wrapf(&err, "valid keys")
	var args sqldb.Args
	return sqldb.All(ctx, s.reader(), prefixKey.read, `SELECT id FROM api_keys
		WHERE revoked_at IS NULL AND `+s.db.In(&args, "id", prefixKey.args(ids)), args...)
}

// Authenticate returns the key that was presented, or ErrNotFound if it does not exist or is
// revoked. How long the index look-up takes may tell how much of the hash is like a stored
// one. That helps nobody: one cannot choose what a guess hashes to.
func (s *Store) Authenticate(ctx context.Context, presented string) (_ Key, err error) {
	defer wrapf(&err, "authenticate")
	key, err := sqldb.One(ctx, s.reader(), scanKey, selectKey+`WHERE k.hash = $1 AND k.revoked_at IS NULL`, hashKey(presented))
	if err != nil {
		return Key{}, err
	}
	return s.used(ctx, key), nil
}

// used notes that the key was used now, once a minute.
func (s *Store) used(ctx context.Context, key Key) Key {
	now := s.db.now()
	if now.Sub(key.LastUsedAt) >= lastUsedEvery && s.noteUse(ctx, key.ID, now) {
		key.LastUsedAt = now
	}
	return key
}

// noteUse writes down that the key was used, if that can be done soon. It fails no request:
// a database that takes no writes can still be read.
func (s *Store) noteUse(ctx context.Context, id string, now time.Time) bool {
	if !s.db.Healthy() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, noteUseTime)
	defer cancel()
	return s.write(ctx, func(tx *transaction) error {
		return tx.Later(`UPDATE api_keys SET last_used_at = $1
			WHERE id = $2 AND (last_used_at IS NULL OR last_used_at < $1)`, now.UnixMicro(), prefixKey.arg(id))
	}) == nil
}

// Tenant owns everything else. A key sees only the rows of its tenant.
type Tenant struct {
	ID        string
	Name      string
	CreatedAt time.Time
}

// EnsureTenant returns the tenant of that name, making it if there is none.
func (s *Store) EnsureTenant(ctx context.Context, name string) (_ Tenant, err error) {
	defer wrapf(&err, "ensure tenant %s", name)
	var tenant Tenant
	err = s.write(ctx, func(tx *transaction) error {
		err := tx.Later(`INSERT INTO tenants (name, created_at) VALUES ($1, $2)
			ON CONFLICT (name) DO NOTHING`, name, tx.db.now().UnixMicro())
		if err != nil {
			return err
		}
		tenant, err = sqldb.One(ctx, tx, scanTenant, `SELECT id, name, created_at FROM tenants WHERE name = $1`, name)
		return err
	})
	return tenant, err
}

func scanTenant(row sqldb.Row) (Tenant, error) {
	var t Tenant
	err := row.Scan(prefixTenant.scan(&t.ID), &t.Name, sqldb.Time(&t.CreatedAt))
	return t, err
}
