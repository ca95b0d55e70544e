package console

import (
	"net/url"
	"slices"
	"time"

	"oprelay/api/client"
)

const (
	shownNow  = 20 // watches on the home page
	shownLast = 10 // that ended
)

// homePage is /.
type homePage struct {
	Needs    []need
	New      bool // nothing has been set up yet
	Base     string
	Watching []client.Watch
	More     bool // are watched than are shown
	Ended    []client.Watch
	Among    int // the newest that have ended, of which Ended are the last; 0 for all
}

// need is something that waits for a person.
type need struct {
	Badge, Name, Link string
	Text              string
	Since             *time.Time
}

func showHome(p *page) error {
	watching, err := p.watches(largest, client.WatchStatusWatching)
	if err != nil {
		return err
	}
	over, err := p.watches(largest, client.WatchStatusCompleted, client.WatchStatusFailed, client.WatchStatusExpired,
		client.WatchStatusUnobservable, client.WatchStatusCanceled)
	if err != nil {
		return err
	}
	shown := homePage{Base: p.base(), Watching: watching.Data, Ended: lastEnded(over.Data), More: watching.NextCursor != nil}
	if over.NextCursor != nil {
		shown.Among = len(over.Data)
	}
	if len(shown.Watching) > shownNow {
		shown.Watching, shown.More = shown.Watching[:shownNow], true
	}
	if shown.Needs, err = p.needs(); err != nil {
		return err
	}
	shown.Needs = append(shown.Needs, p.lateWatches(watching.Data)...)
	shown.New = len(watching.Data)+len(over.Data)+len(shown.Needs) == 0
	return p.show("home", view{Title: "Overview", Section: "/", Live: "any", Refresh: refreshMany, Data: shown})
}

// needs are what waits for a person, but for late watches.
func (p *page) needs() ([]need, error) {
	away, err := p.partsAway()
	if err != nil {
		return nil, err
	}
	most := largest
	destinations, err := decode[client.DestinationList](p.api.ListDestinations(p.ctx, &client.ListDestinationsParams{Limit: &most}))
	if err != nil {
		return nil, err
	}
	credentials, err := p.credentialsInNeed()
	if err != nil {
		return nil, err
	}
	failed, err := p.failedDeliveries(destinations)
	if err != nil {
		return nil, err
	}
	waiting, err := p.lateDeliveries()
	if err != nil {
		return nil, err
	}
	return slices.Concat(away, destinationsInNeed(destinations), credentials, failed, waiting), nil
}

func (p *page) watches(most int, statuses ...client.WatchStatus) (client.WatchList, error) {
	return decode[client.WatchList](p.api.ListWatches(p.ctx, &client.ListWatchesParams{Limit: &most, Status: &statuses}))
}

// lastEnded are those that ended last, of watches that have ended.
func lastEnded(over []client.Watch) []client.Watch {
	slices.SortFunc(over, func(a, b client.Watch) int { return b.FinishedAt.Compare(*a.FinishedAt) })
	return over[:min(len(over), shownLast)]
}

// partsAway are the parts of the relay that do not answer.
func (p *page) partsAway() (needs []need, _ error) {
	ready, err := decode[client.Readiness](p.api.GetReadiness(p.ctx))
	if err != nil {
		return nil, err
	}
	for name, part := range ready.Parts {
		if part.Status == client.ReadinessPartStatusAway {
			needs = append(needs, need{Badge: "away", Name: name, Text: deref(part.Detail) + "; the work goes on, a little slower."})
		}
	}
	return needs, nil
}

func destinationsInNeed(list client.DestinationList) (needs []need) {
	for _, d := range list.Data {
		n := need{Name: d.Name, Link: "/destinations/" + d.ID, Since: d.FailingSince}
		switch {
		case d.Status == client.Disabled:
			n.Badge, n.Text = "disabled", "holds what goes there"
			if d.DisabledReason != nil {
				n.Text += ": " + disabledReasons[*d.DisabledReason]
			}
		case d.FailingSince != nil:
			n.Badge, n.Text = "failing", "accepts nothing: "+plain(d.LastError)
		default:
			continue
		}
		needs = append(needs, n)
	}
	return needs
}

// disabledReasons are why a destination is disabled, in words.
//
//nolint:gochecknoglobals // a constant that Go cannot declare as such
var disabledReasons = map[client.DestinationDisabledReason]string{
	client.DisabledGone:     "it answered 410 Gone",
	client.DisabledFailing:  "nothing but failures for too long",
	client.DisabledRejected: "Slack refuses it for good",
	client.DisabledByUser:   "somebody disabled it",
}

func (p *page) credentialsInNeed() (needs []need, _ error) {
	most := largest
	list, err := decode[client.CredentialList](p.api.ListCredentials(p.ctx, &client.ListCredentialsParams{Limit: &most}))
	if err != nil {
		return nil, err
	}
	for _, c := range list.Data {
		n := need{Badge: string(c.Status), Name: c.Name, Link: "/credentials/" + c.ID, Since: c.RefusedSince}
		switch c.Status {
		case client.CredentialRefused:
			n.Text = "the upstream refuses it; its watches end if that goes on: " + plain(c.LastError)
		case client.CredentialRejected:
			n.Text = "the upstream refused it for too long, its watches have ended: " + plain(c.LastError)
		default:
			continue
		}
		needs = append(needs, n)
	}
	return needs, nil
}

// lateWatches is that polls are late, of the watches.
func (p *page) lateWatches(watching []client.Watch) []need {
	waiting := slices.DeleteFunc(slices.Clone(watching), func(w client.Watch) bool { return !late(p.now(), w.NextPollAt) })
	if len(waiting) == 0 {
		return nil
	}
	return []need{{
		Badge: "late", Name: counted(len(waiting), "watch", "watches"), Link: "/watches?" + url.Values{"status": {"watching"}}.Encode(),
		Text: "should have been polled: is a worker running?", Since: waiting[len(waiting)-1].NextPollAt,
	}}
}
