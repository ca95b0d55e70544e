package storage

import "time"

// The states of a watch. It leaves WatchWatching once, for good.
const (
	WatchWatching     = "watching"
	WatchCompleted    = "completed"
	WatchFailed       = "failed"
	WatchExpired      = "expired"
	WatchUnobservable = "unobservable"
	WatchCanceled     = "canceled"
)

// Why a watch ended without the end of its operation.
const (
	ReasonDeadline           = "deadline"
	ReasonNotFound           = "not_found"
	ReasonCredentialRejected = "credential_rejected"
)

// Watch is a standing request to tell destinations how an operation ended.
type Watch struct {
	ID             string
	TenantID       string
	Status         string
	Operation      Operation
	CredentialID   string
	DestinationIDs []string
	Events         []string
	Metadata       map[string]string
	Polls          int
	LastPolledAt   time.Time
	NextPollAt     time.Time // zero unless watching
	LastPollError  string
	ExpiresAt      time.Time
	CreatedAt      time.Time
	FinishedAt     time.Time
	EventID        string
}

// NewWatch is what a watch is made from. All slices are kept in their order.
type NewWatch struct {
	TenantID       string
	AccountID      string
	OperationID    string
	CredentialID   string
	DestinationIDs []string
	Events         []string
	Timeout        time.Duration
	Metadata       map[string]string
}

// WatchFilter narrows a list of watches; an empty field does not.
type WatchFilter struct {
	TenantID    string // required
	Status      string
	OperationID string
	AccountID   string
}
