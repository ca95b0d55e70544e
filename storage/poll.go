package storage

import "time"

// DuePoll is an operation whose status is to be asked now.
type DuePoll struct {
	RowID                  string
	TenantID               string
	CredentialID           string
	Source                 string
	AccountID              string
	OperationID            string
	CreatedAt              time.Time
	Polls                  int
	Status                 string // "" until seen
	RefusedSince           time.Time
	RefusedReason          string
	CredentialRefusedSince time.Time
}

// Budget allows N requests in any period of length Per.
type Budget struct {
	N   int
	Per time.Duration
}

// TakePolls asks for work of a poll group.
type TakePolls struct {
	Group       string // the budget's id
	Owner       string
	Budget      Budget
	Max         int
	Exclude     map[string]bool // RowIDs in flight
	MinInterval time.Duration   // the shortest time between two polls of an operation
}

// PollResult is what one poll told.
type PollResult struct {
	RowID              string
	At                 time.Time
	Next               time.Time // when to poll again, unless End is set
	Status             string    // "" when the poll was inconclusive
	Error              string
	CompletedAt        time.Time
	Problem            string // why the poll was inconclusive
	RefusedSince       time.Time
	RefusedReason      string // ReasonCredentialRejected or ReasonNotFound
	End                string // "", WatchCompleted, WatchFailed or WatchUnobservable
	CredentialRefused  bool
	CredentialAccepted bool
}

// Slot is a tenth of the window, the grain in which requests are counted. A
// request must be sent within one slot of its charge.
func (b Budget) Slot() time.Duration { return b.Per / 10 }
