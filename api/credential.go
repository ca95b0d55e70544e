package api

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

// CreateCredential stores a credential: POST /v1/credentials.
func (s *Server) CreateCredential(c echo.Context, _ CreateCredentialParams) error {
	r := requestOf(c)
	var body NewCredential
	check := func(context.Context) error {
		f := r.decode(&body)
		checkCredential(body, f)
		return f.err()
	}
	return s.once(c, check, func(ctx context.Context, store *storage.Store) (answer, error) {
		made, err := store.CreateCredential(ctx, storage.NewCredential{
			TenantID: r.key.TenantID,
			Name:     body.Name,
			Secret: storage.CredentialSecret{
				APIToken: storage.Secret(or(body.APIToken, "")),
				Email:    or(body.Email, ""),
				APIKey:   storage.Secret(or(body.APIKey, "")),
			},
		})
		return answer{http.StatusCreated, "/v1/credentials/" + made.ID, credentialAnswer(made)}, err
	})
}

// checkCredential holds a credential to one of its two forms.
func checkCredential(body NewCredential, f *faults) {
	switch {
	case body.APIToken != nil:
		if body.Email != nil {
			f.addf("/email", "goes with api_key only: send either api_token, or email and api_key")
		}
		if body.APIKey != nil {
			f.addf("/api_key", "does not go with api_token: send either api_token, or email and api_key")
		}
	case body.Email == nil && body.APIKey == nil:
		f.addf("/api_token", "is required, unless email and api_key are sent")
	case body.Email == nil:
		f.addf("/email", "is required with api_key")
	case body.APIKey == nil:
		f.addf("/api_key", "is required with email")
	}
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
		Data: each(list.Data, credentialAnswer), NextCursor: nextCursor(list.Next),
	})
}

// GetCredential shows a credential: GET /v1/credentials/{credential_id}.
func (s *Server) GetCredential(c echo.Context, id CredentialID) error {
	found, err := s.store.Credential(c.Request().Context(), requestOf(c).key.TenantID, id)
	if err != nil {
		return err
	}
	return respond(c, credentialAnswer(found))
}

// DeleteCredential deletes a credential: DELETE /v1/credentials/{credential_id}.
func (s *Server) DeleteCredential(c echo.Context, id CredentialID) error {
	if err := s.store.DeleteCredential(c.Request().Context(), requestOf(c).key.TenantID, id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func credentialAnswer(row storage.Credential) Credential {
	return Credential{
		ID:        row.ID,
		Name:      row.Name,
		Auth:      CredentialAuth(row.Auth),
		Status:    CredentialStatus(row.Status),
		CreatedAt: row.CreatedAt,
	}
}
