package jobs

import "oprelay/storage"

const (
	// digestFrom deliveries that wait for a Slack channel are told in one message
	// instead of as many seconds as there are messages.
	digestFrom = 5
	// digestMost is how many operations one such message can name.
	digestMost = 40
)

// errand is what one request to a destination is for: a delivery, a digest of
// several (Slack only), or an update of the message of a watch that goes on (bot
// destinations only).
type errand struct {
	to         *opened // as it was when the errand was claimed
	deliveries []storage.DueDelivery
	progress   *storage.DueProgress
}

func (e errand) id() string {
	if e.progress != nil {
		return e.progress.WatchID
	}
	return e.deliveries[0].ID
}

// digest says that the errand tells of several events in one message.
func (e errand) digest() bool { return len(e.deliveries) > 1 }

// gather makes errands of due deliveries, in their order. At Slack a burst becomes
// one errand, but for watches whose message stands already: that message is updated.
func gather(due []storage.DueDelivery, kind string) []errand {
	errands := make([]errand, 0, len(due))
	burst := make([]storage.DueDelivery, 0, len(due))
	for _, d := range due {
		if kind == storage.KindSlack && d.Slack == (storage.SlackRef{}) {
			burst = append(burst, d)
			continue
		}
		errands = append(errands, errand{deliveries: []storage.DueDelivery{d}})
	}
	if len(burst) >= digestFrom {
		return append([]errand{{deliveries: burst}}, errands...)
	}
	if len(burst) > 0 {
		errands = errands[:0]
		for _, d := range due {
			errands = append(errands, errand{deliveries: []storage.DueDelivery{d}})
		}
	}
	return errands
}
