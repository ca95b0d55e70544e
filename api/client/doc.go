// Package client is the Go client of the relay's API, generated from
// api/openapi.yaml. OpenStream reads the stream of events, which a generator cannot.
//
// NewClientWithResponses takes the relay's address; give it WithAPIKey to
// carry a key. Each call has a ...WithResponse method that decodes the answer
// by its status: JSON201 and so on for successes, and
// ApplicationproblemJSON422 and so on for problems.
package client

import (
	"context"
	"net/http"
)

//go:generate go tool -modfile=../../.tools/go.mod oapi-codegen -config oapi-client.yaml ../openapi.yaml

// WithAPIKey makes every request carry the key ("relay_...").
func WithAPIKey(key string) ClientOption {
	return WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+key)
		return nil
	})
}
