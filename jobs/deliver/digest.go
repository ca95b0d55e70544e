package deliver

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"time"

	"oprelay/notifier"
	"oprelay/storage"
)

const (
	// digestOver is how many messages may wait for a Slack channel before they become one.
	digestOver = 10
	// digestLines is how many of them are told in a line each.
	digestLines = 10
	// digestMost bounds what one digest tells of, and so what a claim for a channel reads and
	// one transaction records.
	digestMost = 1000
	// gatherFor is how long after a digest the next one waits, so that a burst that goes on does
	// not become a message each second. What is not enough for a digest waits for nothing.
	gatherFor = 10 * time.Second
)

// claimMessage chooses the message that a Slack channel gets next, of all that waits for it.
func (r *run) claimMessage(ctx context.Context, to *opened, take storage.TakeDeliveries) ([]send, time.Time, error) {
	take.Max = digestMost
	due, err := r.store.DueMessages(ctx, take)
	var progress []storage.DueProgress
	if err == nil && to.Bot {
		progress, err = r.store.DueProgress(ctx, take)
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	gathering := r.now().Before(r.gatherUntil)
	next := nextMessage(due, progress, gathering)
	if len(next.deliveries)+len(next.progress) == 0 {
		if gathering && len(due)+len(progress) > 0 {
			return nil, r.gatherUntil, nil
		}
		return nil, time.Time{}, nil
	}
	shown, begun := next.shown()
	if err := r.store.LoadMessages(ctx, shown); err != nil {
		return nil, time.Time{}, err
	}
	next.to = to
	return []send{next}, time.Time{}, r.store.LoadProgress(ctx, begun)
}

// nextMessage is what a channel gets next. What would be new in the channel comes first: ends,
// beginnings, alerts and tests. Up to digestOver of these are a message each, the most urgent
// first; more become a digest, or wait for it while they are gathering. Last comes what updates a
// message that stands in the channel already.
func nextMessage(due []storage.DueDelivery, progress []storage.DueProgress, gathering bool) send {
	var news, updates []storage.DueDelivery
	for _, d := range due {
		if d.Slack.TS == "" {
			news = append(news, d)
		} else {
			updates = append(updates, d)
		}
	}
	var begun, moved []storage.DueProgress
	for _, p := range progress {
		if p.Slack.TS == "" {
			begun = append(begun, p)
		} else {
			moved = append(moved, p)
		}
	}
	sortByUrgency(news)
	many := len(news)+len(begun) > digestOver
	switch {
	case many && gathering:
		begun = nil
	case many:
		news = news[:min(len(news), digestMost)]
		return send{deliveries: news, progress: begun[:min(len(begun), digestMost-len(news))]}
	case len(news) > 0:
		return send{deliveries: news[:1]}
	}
	if len(updates) > 0 {
		return send{deliveries: storage.Share(updates, 1)}
	}
	rest := slices.Concat(begun, moved)
	return send{progress: rest[:min(len(rest), 1)]}
}

func sortByUrgency(news []storage.DueDelivery) {
	order := byUrgency()
	slices.SortStableFunc(news, func(a, b storage.DueDelivery) int {
		return cmp.Compare(slices.Index(order, resultOf(a)), slices.Index(order, resultOf(b)))
	})
}

// byUrgency are the results that a digest counts, the most urgent first.
func byUrgency() []string {
	return []string{
		notifier.CountAlert,
		storage.WatchFailed, storage.WatchUnobservable, storage.WatchExpired,
		notifier.CountTest, // somebody waits for it
		storage.WatchCompleted, storage.WatchCanceled, storage.WatchWatching,
	}
}

// resultOf is what a digest counts a delivery as.
func resultOf(d storage.DueDelivery) string {
	switch d.EventType {
	case storage.EventOperationFailed:
		return storage.WatchFailed
	case storage.EventOperationUnobservable:
		return storage.WatchUnobservable
	case storage.EventOperationExpired:
		return storage.WatchExpired
	case storage.EventOperationCompleted:
		return storage.WatchCompleted
	case storage.EventDestinationTest:
		return notifier.CountTest
	}
	return notifier.CountAlert
}

// digest tells of all that s holds. The watches of progress have no deliveries: their links go to
// the watches. What is being watched may have ended by the time that somebody looks, so its link
// names no status.
func (l links) digest(s send) *notifier.Digest {
	told, begun := map[string]int{}, map[string]int{}
	var made, registered span
	for _, d := range s.deliveries {
		told[resultOf(d)]++
		made.add(d.CreatedAt)
	}
	for _, p := range s.progress {
		begun[p.Status]++
		registered.add(p.CreatedAt)
	}
	deliveries, watches := made.filter(s.to.ID), registered.filter(s.to.ID)
	digest := &notifier.Digest{Link: l.list("watches", watches)}
	if len(s.deliveries) > 0 {
		digest.Link = l.list("deliveries", deliveries)
	}
	for _, status := range byUrgency() {
		count := notifier.Count{Status: status, N: told[status] + begun[status]}
		switch {
		case count.N == 0:
			continue
		case status == notifier.CountAlert, status == notifier.CountTest:
		case told[status] > 0:
			deliveries.Set("event_type", "operation."+status)
			count.Link = l.list("deliveries", deliveries)
		case status == storage.WatchWatching:
			watches.Del("status")
			count.Link = l.list("watches", watches)
		default:
			watches.Set("status", status)
			count.Link = l.list("watches", watches)
		}
		digest.Counts = append(digest.Counts, count)
	}
	shown, progress := s.shown()
	for _, d := range shown {
		digest.First = append(digest.First, l.factsOf(d))
	}
	for _, p := range progress {
		digest.First = append(digest.First, l.facts("", p.Watch))
	}
	return digest
}

// span is from the first to the last of some times.
type span struct{ first, last time.Time }

func (s *span) add(at time.Time) {
	if s.first.IsZero() || at.Before(s.first) {
		s.first = at
	}
	if at.After(s.last) {
		s.last = at
	}
}

// filter finds in a list of the console what a destination is told of, and was made in the span.
func (s *span) filter(destinationID string) url.Values {
	return url.Values{
		"destination_id": {destinationID},
		"created_after":  {s.first.Add(-time.Microsecond).UTC().Truncate(time.Second).Format(time.RFC3339)},
		"created_before": {s.last.Add(time.Second).UTC().Truncate(time.Second).Format(time.RFC3339)},
	}
}
