package storage

import "time"

// SourceCloudflareLists is the one source of operations there is.
const SourceCloudflareLists = "cloudflare.lists"

// The states of an operation, as the upstream names them.
const (
	OperationPending   = "pending"
	OperationRunning   = "running"
	OperationCompleted = "completed"
	OperationFailed    = "failed"
)

// Operation is what is known of the external, long-running thing.
type Operation struct {
	Source      string
	AccountID   string
	ID          string
	Status      string // "" until seen
	Error       string
	CompletedAt time.Time
}
