package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
	"oprelay/storage/seal"
)

// CreateCredential stores a credential: POST /v1/credentials.
func (s *Server) CreateCredential(c echo.Context, _ CreateCredentialParams) error {
	r := requestOf(c)
	var body NewCredential
	f := r.decode(&body)
	upstream := or(body.Upstream, defaultUpstream)
	given := secretOf(credentialFields{
		body.APIToken, body.Email, body.APIKey, body.Username, body.Password, body.ClientID, body.ClientSecret, body.ServiceAccount,
	}, f)
	s.checkFields(upstream, given.names, f)
	return s.inTransaction(c, f.err, func(ctx context.Context, store *storage.Store) (answer, error) {
		made, err := store.CreateCredential(ctx, storage.NewCredential{
			TenantID: r.key.TenantID, Name: body.Name, Upstream: upstream, Secret: given.secret,
		})
		return answer{http.StatusCreated, "/v1/credentials/" + made.ID, s.credentialAnswer(made)}, err
	})
}

// credentialFields are the fields of a body that make a credential's secret.
type credentialFields struct {
	apiToken, email, apiKey, username, password, clientID, clientSecret *string
	serviceAccount                                                      *ServiceAccount
}

// givenSecret is a secret, and the fields that it was given in.
type givenSecret struct {
	names  []string
	secret storage.CredentialSecret
}

func secretOf(fields credentialFields, f *faults) (given givenSecret) {
	take := func(name string, value *string) string {
		if value != nil {
			given.names = append(given.names, name)
		}
		return or(value, "")
	}
	given.secret = storage.CredentialSecret{
		APIToken: seal.Secret(take("api_token", fields.apiToken)),
		Email:    take("email", fields.email), APIKey: seal.Secret(take("api_key", fields.apiKey)),
		Username: take("username", fields.username), Password: seal.Secret(take("password", fields.password)),
		ClientID: take("client_id", fields.clientID), ClientSecret: seal.Secret(take("client_secret", fields.clientSecret)),
		ServiceAccount: seal.Secret(take("service_account", fields.serviceAccount)),
	}
	if fields.serviceAccount != nil && !isServiceAccount(*fields.serviceAccount) {
		f.addf("/service_account", "must be the text of a service account's JSON key, with client_email and private_key")
	}
	return given
}

func isServiceAccount(text string) bool {
	var key struct {
		Email string `json:"client_email"`
		Key   string `json:"private_key"`
	}
	return json.Unmarshal([]byte(text), &key) == nil && key.Email != "" && key.Key != ""
}

// ListCredentials shows a page of credentials: GET /v1/credentials.
func (s *Server) ListCredentials(c echo.Context, params ListCredentialsParams) error {
	page, err := pageOf("credential", params.Limit, params.Cursor)
	if err != nil {
		return err
	}
	list, err := s.store.Credentials(c.Request().Context(), requestOf(c).key.TenantID, page)
	if err != nil {
		return err
	}
	return respond(c, CredentialList{
		Data: each(list.Data, s.credentialAnswer), NextCursor: nextCursor(list.Next),
	})
}

// GetCredential shows a credential: GET /v1/credentials/{credential_id}.
func (s *Server) GetCredential(c echo.Context, id CredentialID) error {
	found, err := s.store.Credential(c.Request().Context(), requestOf(c).key.TenantID, id)
	if err != nil {
		return err
	}
	shown := s.credentialAnswer(found)
	if budget := s.budgets(found.Upstream); budget.N > 0 {
		state, err := s.store.BudgetState(c.Request().Context(), found.BudgetID, budget, s.own)
		if err != nil {
			return err
		}
		shown.Budget = &BudgetState{
			Limit: budget.N, WindowSeconds: float32(budget.Per.Seconds()), Remaining: state.Remaining,
			ResetsAt: timeOrNull(s.store.Dated(state.ResetsAt)), Lag: float32(state.Lag),
		}
	}
	return respond(c, shown)
}

// UpdateCredential changes a credential: PATCH /v1/credentials/{credential_id}.
func (s *Server) UpdateCredential(c echo.Context, id CredentialID) error {
	ctx, r := c.Request().Context(), requestOf(c)
	found, err := s.store.Credential(ctx, r.key.TenantID, id)
	if err != nil {
		return err
	}
	var body CredentialPatch
	f := r.decode(&body)
	given := secretOf(credentialFields{
		body.APIToken, body.Email, body.APIKey, body.Username, body.Password, body.ClientID, body.ClientSecret, body.ServiceAccount,
	}, f)
	if len(given.names) > 0 {
		s.checkFields(found.Upstream, given.names, f)
	}
	if err := f.err(); err != nil {
		return err
	}
	patch := storage.CredentialPatch{Name: body.Name}
	if len(given.names) > 0 {
		patch.Secret = &given.secret
	}
	changed, err := s.store.UpdateCredential(ctx, r.key.TenantID, id, patch)
	if err != nil {
		return err
	}
	return respond(c, s.credentialAnswer(changed))
}

// DeleteCredential deletes a credential: DELETE /v1/credentials/{credential_id}.
func (s *Server) DeleteCredential(c echo.Context, id CredentialID) error {
	if err := s.store.DeleteCredential(c.Request().Context(), requestOf(c).key.TenantID, id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (s *Server) credentialAnswer(row storage.Credential) Credential {
	shown := Credential{
		ID:           row.ID,
		Name:         row.Name,
		Upstream:     row.Upstream,
		Auth:         CredentialAuth(row.Auth),
		Status:       CredentialStatus(row.Status),
		RefusedSince: timeOrNull(s.store.Dated(row.RefusedSince)),
		LastError:    orNull(row.LastError),
		CreatedAt:    row.CreatedAt,
	}
	if row.Status == storage.CredentialActive && !row.RefusedSince.IsZero() {
		shown.Status = CredentialRefused
	}
	return shown
}
