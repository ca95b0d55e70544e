package storage

import "time"

// The states of a delivery.
const (
	DeliveryPending   = "pending"
	DeliveryHeld      = "held" // its destination is disabled
	DeliverySucceeded = "succeeded"
	DeliveryFailed    = "failed"
	DeliveryCanceled  = "canceled"
)

// Delivery is the obligation to get one event to one destination.
type Delivery struct {
	ID            string
	EventID       string
	EventType     string
	WatchID       string
	DestinationID string
	Status        string
	AttemptsMade  int
	NextAttemptAt time.Time // zero unless pending
	CreatedAt     time.Time
	FinishedAt    time.Time
}

// Attempt is one try of a delivery.
type Attempt struct {
	Number       int // from 1
	StartedAt    time.Time
	Duration     time.Duration
	StatusCode   int // 0 when there was no answer
	Error        string
	ResponseBody []byte
}

// DeliveryFilter narrows a list of deliveries; an empty field does not.
type DeliveryFilter struct {
	TenantID      string // required
	WatchID       string
	DestinationID string
	EventID       string
	Status        string
}

// SlackRef is where a message stands in Slack.
type SlackRef struct {
	Channel string
	TS      string
}

// DueDelivery is a delivery to attempt now.
type DueDelivery struct {
	ID           string
	EventID      string
	EventType    string
	TenantID     string
	WatchID      string
	Body         []byte
	AttemptsMade int
	Step         int      // attempts since the schedule last began: 0 before the first
	Watch        *Watch   // only for Slack, nil for an event that is not about a watch
	Slack        SlackRef // the watch's message at a bot destination, if there is one
}

// TakeDeliveries asks for work of a deliver group.
type TakeDeliveries struct {
	Group   string // the destination's id
	Owner   string
	Max     int
	Exclude map[string]bool // ids of deliveries (or, for DueProgress, of watches) in flight
}

// AttemptResult is what one attempt led to.
type AttemptResult struct {
	DeliveryID    string
	AttemptsMade  int // before this attempt
	Attempt       Attempt
	Status        string // DeliverySucceeded, DeliveryPending, DeliveryFailed or DeliveryHeld
	NextAttemptAt time.Time
	Slack         SlackRef // zero if the attempt left no message
}
