package api

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

// CreateKey makes an API key: POST /v1/keys.
func (s *Server) CreateKey(c echo.Context, _ CreateKeyParams) error {
	r := requestOf(c)
	var body NewKey
	f := r.decode(&body)
	return s.inTransaction(c, f.err, func(ctx context.Context, store *storage.Store) (answer, error) {
		made, value, err := store.CreateKey(ctx, storage.NewAPIKey{
			TenantID: r.key.TenantID,
			Name:     body.Name,
			Scopes:   each(body.Scopes, func(scope Scope) storage.Scope { return storage.Scope(scope) }),
		})
		shown := keyAnswer(made)
		shown.Key = orNull(string(value)) // this once
		// No Location: a key is shown in the list alone.
		return answer{status: http.StatusCreated, body: shown}, err
	})
}

// ListKeys shows a page of API keys: GET /v1/keys.
func (s *Server) ListKeys(c echo.Context, params ListKeysParams) error {
	page, err := pageOf("key", params.Limit, params.Cursor)
	if err != nil {
		return err
	}
	list, err := s.store.Keys(c.Request().Context(), requestOf(c).key.TenantID, page)
	if err != nil {
		return err
	}
	return respond(c, KeyList{Data: each(list.Data, keyAnswer), NextCursor: nextCursor(list.Next)})
}

// RevokeKey revokes an API key at once: DELETE /v1/keys/{key_id}.
func (s *Server) RevokeKey(c echo.Context, id KeyID) error {
	if err := s.store.RevokeKey(c.Request().Context(), requestOf(c).key.TenantID, id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func keyAnswer(row storage.Key) Key {
	return Key{
		ID:         row.ID,
		Name:       row.Name,
		Scopes:     each(row.Scopes, func(scope storage.Scope) Scope { return Scope(scope) }),
		CreatedAt:  row.CreatedAt,
		LastUsedAt: timeOrNull(row.LastUsedAt),
	}
}
