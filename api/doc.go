// Package api is the relay's HTTP API.
//
// openapi.yaml is its source: the types, the server interface and the Go
// client (package client) are generated from it, every request is checked
// against it, and it is what GET /openapi.yaml and /docs show. A handler
// decodes, checks what the document cannot say, makes one call to the store,
// and answers; errors are returned, and written in one place (problem.go).
package api

//go:generate go tool -modfile=../.tools/go.mod oapi-codegen -config oapi-server.yaml openapi.yaml
