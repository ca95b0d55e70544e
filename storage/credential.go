package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"oprelay/storage/seal"
	"oprelay/storage/sqldb"
)

// The ways a credential authenticates at the upstream.
const (
	AuthAPIToken       = "api_token"
	AuthAPIKey         = "api_key"
	AuthBasic          = "basic"
	AuthOAuth2Client   = "oauth2_client"
	AuthServiceAccount = "google_service_account"
	AuthNone           = "none"
)

// UpstreamCloudflare is the upstream of budgets whose ids name none.
const UpstreamCloudflare = "cloudflare"

// The states of a credential.
const (
	CredentialActive   = "active"
	CredentialRejected = "rejected" // the upstream refused it for longer than the grace period
)

// CredentialSecret is what authenticates polls, in one of the ways.
type CredentialSecret struct {
	APIToken       seal.Secret
	Email          string
	APIKey         seal.Secret
	Username       string
	Password       seal.Secret
	ClientID       string
	ClientSecret   seal.Secret
	ServiceAccount seal.Secret // JSON
	// Version counts the changes of a credential's secret. OpenCredential sets it.
	Version int
}

// Credential is what the relay polls with, without its secret.
type Credential struct {
	ID           string
	TenantID     string
	Name         string
	Upstream     string
	Auth         string // AuthAPIToken or another way
	Status       string // CredentialActive or CredentialRejected
	BudgetID     string // shared by credentials of the same token or user: the id of their poll group
	CreatedAt    time.Time
	RefusedSince time.Time // steady; zero while the upstream accepts it
	LastError    string    // the upstream's words of the last refusal; cleared by a new secret
}

// NewCredential is what a credential is made from.
type NewCredential struct {
	TenantID string
	Name     string
	Upstream string
	Secret   CredentialSecret
}

// keptCredential is a CredentialSecret as it is sealed: a Secret hides itself in JSON.
type keptCredential struct {
	APIToken       string `json:"api_token,omitempty"`
	Email          string `json:"email,omitempty"`
	APIKey         string `json:"api_key,omitempty"`
	Username       string `json:"username,omitempty"`
	Password       string `json:"password,omitempty"`
	ClientID       string `json:"client_id,omitempty"`
	ClientSecret   string `json:"client_secret,omitempty"`
	ServiceAccount string `json:"service_account,omitempty"`
}

//nolint:gosec // columns, no credentials
const selectCredential = `SELECT id, tenant_id, name, upstream, auth, status, budget_id, created_at, refused_since, last_error
	FROM credentials WHERE deleted_at IS NULL `

func scanCredential(row sqldb.Row) (Credential, error) {
	var c Credential
	err := row.Scan(prefixCredential.scan(&c.ID), prefixTenant.scan(&c.TenantID), &c.Name, &c.Upstream, &c.Auth, &c.Status, &c.BudgetID,
		sqldb.Time(&c.CreatedAt), sqldb.Time(&c.RefusedSince), &c.LastError)
	return c, err
}

// budgetID names the budget that an upstream keeps for a secret: by token, or by user, so that
// all secrets of a user share one. Nobody proves that a user's name is theirs, so each tenant
// has a budget of its own for it: none can spend another's.
func (s CredentialSecret) budgetID(tenantID, upstream string) string {
	user := map[string]string{
		AuthAPIKey: "email\x00" + tenantID + "\x00" + strings.ToLower(s.Email), AuthBasic: "username\x00" + tenantID + "\x00" + s.Username,
		AuthOAuth2Client: "client_id\x00" + tenantID + "\x00" + s.ClientID, AuthNone: "none\x00" + tenantID,
		AuthAPIToken: "api_token\x00" + string(s.APIToken), AuthServiceAccount: "service_account\x00" + string(s.ServiceAccount),
	}
	hash := sha256.Sum256([]byte(user[s.auth()]))
	if upstream == UpstreamCloudflare {
		return hex.EncodeToString(hash[:])
	}
	return upstream + ":" + hex.EncodeToString(hash[:])
}

// UpstreamOfBudget is the upstream that a budget is for, by its id.
func UpstreamOfBudget(budgetID string) string {
	if upstream, _, named := strings.Cut(budgetID, ":"); named {
		return upstream
	}
	return UpstreamCloudflare
}

func (s CredentialSecret) auth() string {
	switch {
	case s.APIToken != "":
		return AuthAPIToken
	case s.Email != "":
		return AuthAPIKey
	case s.Username != "" || s.Password != "":
		return AuthBasic
	case s.ClientID != "":
		return AuthOAuth2Client
	case s.ServiceAccount != "":
		return AuthServiceAccount
	}
	return AuthNone
}

func (db *database) sealCredential(id string, s CredentialSecret) ([]byte, error) {
	return db.seal(credentialSecret(id), keptCredential{
		APIToken: string(s.APIToken), Email: s.Email, APIKey: string(s.APIKey), Username: s.Username, Password: string(s.Password),
		ClientID: s.ClientID, ClientSecret: string(s.ClientSecret), ServiceAccount: string(s.ServiceAccount),
	})
}

// CreateCredential creates a credential. Its secret is kept sealed.
func (s *Store) CreateCredential(ctx context.Context, n NewCredential) (_ Credential, err error) {
	defer wrapf(&err, "create credential")
	credential := Credential{
		ID: newID(prefixCredential), TenantID: n.TenantID, Name: n.Name, Upstream: n.Upstream, Auth: n.Secret.auth(),
		Status: CredentialActive, BudgetID: n.Secret.budgetID(n.TenantID, n.Upstream), CreatedAt: s.db.now(),
	}
	sealed, err := s.db.sealCredential(credential.ID, n.Secret)
	if err != nil {
		return Credential{}, err
	}
	err = s.write(ctx, func(tx *transaction) error {
		return tx.Later(`INSERT INTO credentials
			(id, tenant_id, name, upstream, auth, status, budget_id, secret, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			prefixCredential.arg(credential.ID), prefixTenant.arg(credential.TenantID), credential.Name, credential.Upstream,
			credential.Auth, credential.Status, credential.BudgetID, sealed, credential.CreatedAt.UnixMicro())
	})
	return credential, err
}

// Credential returns one credential of the tenant.
func (s *Store) Credential(ctx context.Context, tenantID, id string) (_ Credential, err error) {
	defer wrapf(&err, "credential %s", id)
	return sqldb.One(ctx, s.reader(), scanCredential,
		selectCredential+`AND tenant_id = $1 AND id = $2`, prefixTenant.arg(tenantID), prefixCredential.arg(id))
}

// Credentials lists the tenant's credentials, newest first.
func (s *Store) Credentials(ctx context.Context, tenantID string, page Page) (_ List[Credential], err error) {
	defer wrapf(&err, "list credentials")
	return sqldb.ReadPage(ctx, s.reader(), sqldb.PageQuery[Credential]{
		Selection: selectCredential, Scan: scanCredential, ID: func(c Credential) string { return c.ID },
		Key: prefixCredential.arg, IDColumn: "id",
		Always: sqldb.Filter{Column: "tenant_id", Value: prefixTenant.arg(tenantID)}, Page: page,
	})
}

// DeleteCredential deletes a credential and its secret, but is an [InUseError] while watches
// that are still watching use it. CreateWatches holds a lock on its row that conflicts with
// this one, so no watch is added in between. The row stays, for watches go on naming it.
func (s *Store) DeleteCredential(ctx context.Context, tenantID, id string) (err error) {
	defer wrapf(&err, "delete credential %s", id)
	return s.write(ctx, func(tx *transaction) error {
		_, err := sqldb.One(ctx, tx, scanCredential,
			selectCredential+`AND tenant_id = $1 AND id = $2`+tx.ForDelete, prefixTenant.arg(tenantID), prefixCredential.arg(id))
		if err != nil {
			return err
		}
		open, err := sqldb.One(ctx, tx, sqldb.Int, `SELECT CAST(COALESCE(SUM(
			(SELECT COUNT(*) FROM open_watches w WHERE w.operation_ref = o.id)), 0) AS BIGINT)
			FROM open_operations o WHERE o.credential_id = $1`, prefixCredential.arg(id))
		switch {
		case err != nil:
			return err
		case open > 0:
			return &InUseError{Open: int(open)}
		}
		return sqldb.Exec(ctx, tx, `UPDATE credentials SET deleted_at = $1, secret = $2 WHERE id = $3`,
			tx.db.now().UnixMicro(), []byte{}, prefixCredential.arg(id))
	})
}

// OpenCredential returns the secret of a credential of any tenant, for polls.
func (s *Store) OpenCredential(ctx context.Context, id string) (_ CredentialSecret, err error) {
	defer wrapf(&err, "open credential %s", id)
	var version int
	sealed, err := sqldb.One(ctx, s.reader(), func(row sqldb.Row) (sealed []byte, err error) {
		err = row.Scan(&version, &sealed)
		return sealed, err
	}, `SELECT version, secret FROM credentials WHERE id = $1 AND deleted_at IS NULL`, prefixCredential.arg(id))
	if err != nil {
		return CredentialSecret{}, err
	}
	var kept keptCredential
	if err := s.db.unseal(credentialSecret(id), sealed, &kept); err != nil {
		return CredentialSecret{}, err
	}
	return CredentialSecret{
		APIToken: seal.Secret(kept.APIToken), Email: kept.Email, APIKey: seal.Secret(kept.APIKey),
		Username: kept.Username, Password: seal.Secret(kept.Password), ClientID: kept.ClientID,
		ClientSecret: seal.Secret(kept.ClientSecret), ServiceAccount: seal.Secret(kept.ServiceAccount), Version: version,
	}, nil
}

// CredentialUpstreams says whose credentials those of the ids are that the tenant has.
func (s *Store) CredentialUpstreams(ctx context.Context, tenantID string, ids []string) (_ map[string]string, err error) {
	defer wrapf(&err, "upstreams of credentials")
	args := sqldb.Args{prefixTenant.arg(tenantID)}
	upstreams := map[string]string{}
	_, err = s.reader().Query(ctx, func(row sqldb.Row) error {
		var id, upstream string
		err := row.Scan(prefixCredential.scan(&id), &upstream)
		upstreams[id] = upstream
		return err
	}, `SELECT id, upstream FROM credentials WHERE tenant_id = $1 AND deleted_at IS NULL AND `+
		s.db.In(&args, "id", prefixCredential.args(ids)), args...)
	return upstreams, err
}

// credentialSecret names the place of a credential's secret, which is sealed into the value:
// it opens in no other row.
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

// CredentialPatch changes what is not nil.
type CredentialPatch struct {
	Name   *string
	Secret *CredentialSecret // replaces the old one as a whole
}

// UpdateCredential changes what the patch names. A new secret clears a refusal of the old
// one: the credential is active, and operations that were refused with it are polled now. In
// the same transaction its operations move to the budget of the new secret; what was charged
// to the old budget stays there. Polls in flight carry the version of the old secret, by
// which their refusals are dropped ([Store.RecordPolls]).
func (s *Store) UpdateCredential(ctx context.Context, tenantID, id string, patch CredentialPatch) (changed Credential, err error) {
	defer wrapf(&err, "update credential %s", id)
	err = s.write(ctx, func(tx *transaction) error {
		c, err := sqldb.One(ctx, tx, scanCredential,
			selectCredential+`AND tenant_id = $1 AND id = $2`+tx.ForDelete, prefixTenant.arg(tenantID), prefixCredential.arg(id))
		if err != nil {
			return err
		}
		set(&c.Name, patch.Name)
		if patch.Secret != nil {
			if c, err = tx.replaceSecret(ctx, c, *patch.Secret); err != nil {
				return err
			}
		}
		changed = c
		return sqldb.Exec(ctx, tx, `UPDATE credentials SET name = $1 WHERE id = $2`, c.Name, prefixCredential.arg(id))
	})
	return changed, err
}

// replaceSecret gives a locked credential another secret. The lock keeps registrations out,
// so all of its operations move.
func (tx *transaction) replaceSecret(ctx context.Context, c Credential, secret CredentialSecret) (Credential, error) {
	old := c.BudgetID
	sealed, err := tx.db.sealCredential(c.ID, secret)
	if err != nil {
		return c, err
	}
	c.Auth, c.BudgetID, c.Status = secret.auth(), secret.budgetID(c.TenantID, c.Upstream), CredentialActive
	c.RefusedSince, c.LastError = time.Time{}, ""
	err = tx.Later(`UPDATE credentials SET auth = $1, budget_id = $2, secret = $3, version = version + 1,
		status = 'active', refused_since = NULL, refused_at = NULL, last_error = '' WHERE id = $4`,
		c.Auth, c.BudgetID, sealed, prefixCredential.arg(c.ID))
	if err != nil {
		return c, err
	}
	open, err := sqldb.One(ctx, tx, sqldb.Int, `SELECT COUNT(*) FROM (SELECT id FROM open_operations
		WHERE credential_id = $1 AND budget_id <> ''`+operationOrder+tx.ForUpdate+`) AS locked`, prefixCredential.arg(c.ID))
	if err != nil || open == 0 {
		return c, err
	}
	now := tx.db.steady()
	tx.markDue(Group{PollGroup, c.BudgetID}, now)
	err = tx.Later(`UPDATE open_operations SET budget_id = $1, refused_reason = `+unlessRefused("''", "refused_reason")+`,
		refused_since = `+unlessRefused("NULL", "refused_since")+`, problem = `+unlessRefused("''", "problem")+`,
		due_at = `+unlessRefused(tx.Least+`(due_at, CAST($2 AS BIGINT))`, "due_at")+`
		WHERE credential_id = $3 AND budget_id <> ''`, c.BudgetID, now.UnixMicro(), prefixCredential.arg(c.ID))
	if err != nil {
		return c, err
	}
	// The due times come from the plan of the old budget. With that plan the new budget is
	// planned anew, and its operations need not wait for as long as the old one had to.
	return c, tx.Later(`INSERT INTO budgets (id, growth, longest) SELECT $1, growth, longest FROM budgets WHERE id = $2
		ON CONFLICT (id) DO UPDATE SET growth = excluded.growth, longest = excluded.longest WHERE budgets.growth < excluded.growth`,
		c.BudgetID, old)
}

// unlessRefused is SQL for the one value where an operation was refused with its credential,
// and for the other elsewhere.
func unlessRefused(refused, other string) string {
	return `CASE WHEN refused_reason = '` + ReasonCredentialRejected + `' THEN ` + refused + ` ELSE ` + other + ` END`
}
