package storage

import "time"

// The types of event.
const (
	EventOperationCompleted    = "operation.completed"
	EventOperationFailed       = "operation.failed"
	EventOperationExpired      = "operation.expired"
	EventOperationUnobservable = "operation.unobservable"
	EventDestinationTest       = "destination.test"
	EventDestinationDisabled   = "destination.disabled"
	EventCredentialRejected    = "credential.rejected"
)

// Event is an immutable fact, mostly about a watch.
type Event struct {
	ID        string
	TenantID  string
	Type      string
	WatchID   string // "" for an event that is not about a watch
	CreatedAt time.Time
	Body      []byte // the exact bytes that are sent
}
