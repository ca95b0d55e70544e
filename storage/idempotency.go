package storage

import "errors"

var (
	// ErrIdempotencyRunning says that a request with this key is still being handled.
	ErrIdempotencyRunning = errors.New("a request with this idempotency key is still running")
	// ErrIdempotencyMismatch says that the key was used for another request.
	ErrIdempotencyMismatch = errors.New("the idempotency key was used for another request")
)

// IdempotencyKey names a request that is to be handled once.
type IdempotencyKey struct {
	TenantID    string
	Key         string
	Fingerprint []byte // SHA-256 of method, path and body
}

// Answer is what a request was answered with.
type Answer struct {
	Status      int
	ContentType string
	Location    string
	Body        []byte
}
