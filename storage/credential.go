package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The ways a credential authenticates at the upstream.
const (
	AuthAPIToken = "api_token"
	AuthAPIKey   = "api_key"
)

// The states of a credential.
const (
	CredentialActive   = "active"
	CredentialRejected = "rejected" // the upstream refused it for longer than the grace period
)

// CredentialSecret is what the upstream is asked with: a token, or an email and its key.
type CredentialSecret struct {
	APIToken Secret
	Email    string
	APIKey   Secret
}

// Credential is what the relay polls with, without its secret.
type Credential struct {
	ID           string
	TenantID     string
	Name         string
	Auth         string // AuthAPIToken or AuthAPIKey
	Status       string // CredentialActive or CredentialRejected
	BudgetID     string // shared by credentials of the same token or email: the id of their poll group
	CreatedAt    time.Time
	RefusedSince time.Time // steady; zero while the upstream accepts it
}

// NewCredential is what a credential is made from.
type NewCredential struct {
	TenantID string
	Name     string
	Secret   CredentialSecret
}

// keptCredential is a CredentialSecret as it is sealed: a Secret hides itself in JSON.
type keptCredential struct {
	APIToken string `json:"api_token,omitempty"`
	Email    string `json:"email,omitempty"`
	APIKey   string `json:"api_key,omitempty"`
}

//nolint:gosec // columns, no credentials
const selectCredential = `SELECT id, tenant_id, name, auth, status, budget_id, created_at, refused_since
	FROM credentials WHERE deleted_at IS NULL `

func scanCredential(row scanner) (Credential, error) {
	var c Credential
	err := row.Scan(&c.ID, &c.TenantID, &c.Name, &c.Auth, &c.Status, &c.BudgetID,
		timeColumn{&c.CreatedAt}, timeColumn{&c.RefusedSince})
	return c, err
}

// budgetID names the budget that the upstream keeps for a secret: by token, or by
// user, so all keys of an email share one. An email is no proof of who one is: each
// tenant has its own, lest one spend another's.
func (s CredentialSecret) budgetID(tenantID string) string {
	name := "api_token\x00" + string(s.APIToken)
	if s.APIToken == "" {
		name = "email\x00" + tenantID + "\x00" + strings.ToLower(s.Email)
	}
	hash := sha256.Sum256([]byte(name))
	return hex.EncodeToString(hash[:])
}

// CreateCredential keeps a credential, its secret sealed.
func (s *Store) CreateCredential(ctx context.Context, n NewCredential) (Credential, error) {
	credential := Credential{
		ID: newID(prefixCredential), TenantID: n.TenantID, Name: n.Name, Auth: AuthAPIToken,
		Status: CredentialActive, BudgetID: n.Secret.budgetID(n.TenantID), CreatedAt: s.db.now(),
	}
	if n.Secret.APIToken == "" {
		credential.Auth = AuthAPIKey
	}
	sealed, err := s.db.seal(credentialSecret(credential.ID), keptCredential{
		APIToken: string(n.Secret.APIToken), Email: n.Secret.Email, APIKey: string(n.Secret.APIKey),
	})
	if err != nil {
		return Credential{}, fmt.Errorf("create credential: %w", err)
	}
	err = s.write(ctx, func(tx *transaction) error {
		err := tx.later(ctx, `INSERT INTO credentials
			(id, tenant_id, name, auth, status, budget_id, secret, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			credential.ID, credential.TenantID, credential.Name, credential.Auth, credential.Status,
			credential.BudgetID, sealed, credential.CreatedAt.UnixMicro())
		return err
	})
	if err != nil {
		return Credential{}, fmt.Errorf("create credential: %w", err)
	}
	return credential, nil
}

// Credential returns one credential of the tenant.
func (s *Store) Credential(ctx context.Context, tenantID, id string) (Credential, error) {
	credential, err := queryOne(ctx, s.reader(), scanCredential,
		selectCredential+`AND tenant_id = $1 AND id = $2`, tenantID, id)
	if err != nil {
		return Credential{}, fmt.Errorf("credential %s: %w", id, err)
	}
	return credential, nil
}

// Credentials lists the tenant's credentials, newest first.
func (s *Store) Credentials(ctx context.Context, tenantID string, page Page) (List[Credential], error) {
	credentials, err := queryPage(ctx, s.reader(), pageQuery[Credential]{
		selection: selectCredential, scan: scanCredential, id: func(c Credential) string { return c.ID },
		idColumn: "id", tenant: filter{column: "tenant_id", value: tenantID}, page: page,
	})
	if err != nil {
		return List[Credential]{}, fmt.Errorf("list credentials: %w", err)
	}
	return credentials, nil
}

// DeleteCredential forgets a credential and its secret; ErrInUse while watches
// that are still watching use it. The row is locked before they are looked for,
// and CreateWatches holds it while it adds one: so none can slip in between.
func (s *Store) DeleteCredential(ctx context.Context, tenantID, id string) error {
	err := s.write(ctx, func(tx *transaction) error {
		_, err := queryOne(ctx, tx, scanCredential,
			selectCredential+`AND tenant_id = $1 AND id = $2`+tx.db.dialect.forUpdate, tenantID, id)
		if err != nil {
			return err
		}
		used, err := queryAll(ctx, tx, scanInt, `SELECT 1 FROM watches WHERE credential_id = $1 AND status = 'watching' LIMIT 1`, id)
		switch {
		case err != nil:
			return err
		case len(used) > 0:
			return ErrInUse
		}
		return exec(ctx, tx, `UPDATE credentials SET deleted_at = $1, secret = $2 WHERE id = $3`,
			tx.db.now().UnixMicro(), []byte{}, id)
	})
	if err != nil {
		return fmt.Errorf("delete credential %s: %w", id, err)
	}
	return nil
}

// OpenCredential returns the secret of a credential of any tenant, for polling.
func (s *Store) OpenCredential(ctx context.Context, id string) (CredentialSecret, error) {
	sealed, err := queryOne(ctx, s.reader(), scanBytes,
		`SELECT secret FROM credentials WHERE id = $1 AND deleted_at IS NULL`, id)
	if err != nil {
		return CredentialSecret{}, fmt.Errorf("open credential %s: %w", id, err)
	}
	var kept keptCredential
	if err := s.db.unseal(credentialSecret(id), sealed, &kept); err != nil {
		return CredentialSecret{}, fmt.Errorf("open credential %s: %w", id, err)
	}
	return CredentialSecret{APIToken: Secret(kept.APIToken), Email: kept.Email, APIKey: Secret(kept.APIKey)}, nil
}

// KnownCredentials says which of the ids are credentials of the tenant.
func (s *Store) KnownCredentials(ctx context.Context, tenantID string, ids []string) (map[string]bool, error) {
	known, err := s.known(ctx, "credentials", tenantID, ids)
	if err != nil {
		return nil, fmt.Errorf("known credentials: %w", err)
	}
	return known, nil
}

// known says which of the ids are rows of the tenant that are not deleted.
func (s *Store) known(ctx context.Context, table, tenantID string, ids []string) (map[string]bool, error) {
	var args arguments
	found, err := queryAll(ctx, s.reader(), scanString, `SELECT id FROM `+table+
		` WHERE tenant_id = `+args.add(tenantID)+` AND deleted_at IS NULL AND id IN (`+args.list(ids)+`)`, args...)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(found))
	for _, id := range found {
		known[id] = true
	}
	return known, nil
}

// credentialSecret is where a credential's secret is kept, for Seal.
func credentialSecret(id string) string { return "credentials/secret/" + id }

// seal seals a value as JSON.
func (db *database) seal(additional string, value any) ([]byte, error) {
	plain, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return db.keys.Seal(additional, plain)
}

// unseal reads what seal made.
func (db *database) unseal(additional string, sealed []byte, into any) error {
	plain, err := db.keys.Open(additional, sealed)
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, into)
}
