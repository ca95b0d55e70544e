package storage

import "time"

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
	RefusedSince time.Time // zero while the upstream accepts it
}

// NewCredential is what a credential is made from.
type NewCredential struct {
	TenantID string
	Name     string
	Secret   CredentialSecret
}
