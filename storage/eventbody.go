package storage

import "time"

// eventBody is what a receiver gets: the order of the fields is part of the contract.
type eventBody struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      any       `json:"data"`
}

// operationEventData is the data of an event about a watch.
type operationEventData struct {
	WatchID    string             `json:"watch_id"`
	Operation  operationEventBody `json:"operation"`
	Reason     *string            `json:"reason"`
	ObservedAt time.Time          `json:"observed_at"`
	Polls      int                `json:"polls"`
	Metadata   map[string]string  `json:"metadata"`
}

type operationEventBody struct {
	Source      string     `json:"source"`
	AccountID   string     `json:"account_id"`
	ID          string     `json:"id"`
	Status      *string    `json:"status"`
	Error       *string    `json:"error"`
	CompletedAt *time.Time `json:"completed_at"`
}

// destinationTestData is the data of destination.test.
type destinationTestData struct {
	DestinationID string `json:"destination_id"`
	Name          string `json:"name"`
}

// destinationDisabledData is the data of destination.disabled.
type destinationDisabledData struct {
	DestinationID string    `json:"destination_id"`
	Name          string    `json:"name"`
	Reason        string    `json:"reason"`
	DisabledAt    time.Time `json:"disabled_at"`
}

// credentialRejectedData is the data of credential.rejected.
type credentialRejectedData struct {
	CredentialID string    `json:"credential_id"`
	Name         string    `json:"name"`
	RefusedSince time.Time `json:"refused_since"`
	RejectedAt   time.Time `json:"rejected_at"`
}

// operationBody is an operation as an event tells it.
func operationBody(o Operation) operationEventBody {
	body := operationEventBody{
		Source: o.Source, AccountID: o.AccountID, ID: o.ID, Status: optional(o.Status), Error: optional(o.Error),
	}
	if !o.CompletedAt.IsZero() {
		body.CompletedAt = &o.CompletedAt
	}
	return body
}

// optional makes "" a null.
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// renderBody makes the bytes that are kept and sent, ever the same. All times
// are UTC and whole microseconds already; encoding/json writes them by RFC 3339.
func renderBody(kind string, at time.Time, data any) ([]byte, error) {
	text, err := jsonText(eventBody{Type: kind, Timestamp: at, Data: data})
	return []byte(text), err
}
