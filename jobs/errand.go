package jobs

import "oprelay/storage"

// errand is what one request to a destination is for: a delivery, or (bot
// destinations only) an update of the Slack message of a watch that goes on.
type errand struct {
	to       *opened // as it was when the errand was claimed
	delivery *storage.DueDelivery
	progress *storage.DueProgress
}

func (e errand) id() string {
	if e.progress != nil {
		return e.progress.WatchID
	}
	return e.delivery.ID
}
