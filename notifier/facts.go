package notifier

import "time"

// Facts is what a person reads about an event or about a watch's progress. Strings may hold anything: the
// rendering escapes and cuts them.
type Facts struct {
	Type        string // the event's type; empty for a progress update
	Status      string // watching, pending, running, completed, failed, expired, unobservable or canceled
	WatchID     string
	Source      string // such as cloudflare.lists
	AccountID   string
	OperationID string
	Error       string // the upstream's message about a failed operation
	Reason      string // deadline, not_found or credential_rejected
	StartedAt   time.Time
	EndedAt     time.Time // zero while the operation goes on
	Polls       int
	Metadata    map[string]string
	Link        string // the watch's page in the console; empty if there is none

	// Alert, if set, is told instead of an operation: destination.disabled, credential.rejected,
	// destination.test.
	Alert *Alert
}

// Alert is news about the relay's own set-up rather than about an operation.
type Alert struct {
	Title  string
	Text   string
	Fields []Field
}

// Field is one named value of an [Alert].
type Field struct {
	Name  string
	Value string
}
