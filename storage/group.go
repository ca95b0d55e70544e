package storage

// GroupKind says what the work of a group is.
type GroupKind string

// The kinds of group.
const (
	PollGroup    GroupKind = "poll"    // polls of one budget
	DeliverGroup GroupKind = "deliver" // deliveries to one destination
)

// Group is work that one worker does at a time, because it shares a limit.
type Group struct {
	Kind GroupKind
	ID   string // of the budget or of the destination
}
