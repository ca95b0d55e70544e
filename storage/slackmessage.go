package storage

import "time"

// DueProgress is a Slack message that does not show its watch's state yet.
type DueProgress struct {
	WatchID  string
	Watch    Watch
	Slack    SlackRef // zero before the message is posted
	Revision int      // what to give back in ProgressResult
}

// ProgressResult is what came of bringing a message up to date.
type ProgressResult struct {
	WatchID       string
	Slack         SlackRef
	Revision      int
	NextAttemptAt time.Time // zero when the message shows Revision now
}
