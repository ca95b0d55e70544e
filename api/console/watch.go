package console

import (
	"encoding/json"
	"slices"
	"time"

	"oprelay/api/client"
	"oprelay/storage"
)

// maxTold bounds the deliveries whose attempts a page shows: a watch has 20 destinations at most.
const maxTold = 20

// watchPage is /watches/{id}: one timeline.
type watchPage struct {
	Watch        client.Watch
	Credential   *client.Credential // nil if it is deleted
	Destinations []client.Destination
	LeftOut      []string // ends that nobody is told of
	Event        *client.Event
	EventLeftOut bool   // nobody is told of this one
	Reason       string // of an end that the operation did not tell
	Deliveries   []toldDelivery
	Cancel       *action
	Curl         string
	Refresh      int // seconds after which something will have happened; 0 for nothing
}

// toldDelivery is a delivery with its attempts and its destination.
type toldDelivery struct {
	client.Delivery

	Destination client.Destination // with its id alone if it is deleted
	Redeliver   *action
	Curl        string
}

func showWatch(p *page) error {
	id := p.r.PathValue("id")
	watch, err := decode[client.Watch](p.api.GetWatch(p.ctx, id, nil))
	if err != nil {
		return err
	}
	known, err := p.destinations()
	if err != nil {
		return err
	}
	shown := watchPage{
		Watch: watch, LeftOut: leftOut(watch), Curl: p.curl("/v1/watches/"+id, ""),
		Destinations: each(watch.DestinationIds, known.of),
	}
	if shown.Credential, err = found(decode[client.Credential](p.api.GetCredential(p.ctx, watch.CredentialID))); err != nil {
		return err
	}
	if watch.EventID != nil {
		if err := p.showEnd(&shown, known); err != nil {
			return err
		}
	}
	if watch.Status == client.WatchStatusWatching {
		shown.Refresh = p.after(watch.NextPollAt)
		shown.Cancel = p.offer(storage.ScopeWrite, action{
			URL: "/watches/" + id + "/cancel", Label: "Cancel watch", Confirm: "Yes, cancel it", Danger: true,
			Ask: "The relay asks for this operation no more, and no destination hears how it ends. The operation itself goes on.",
		})
	}
	return p.show("watch", view{Title: title(watch), Section: "/watches", Live: id, Refresh: refreshMany, Data: shown})
}

// showEnd adds the event of a watch that has ended, and what became of it.
func (p *page) showEnd(shown *watchPage, known destinations) (err error) {
	watch := shown.Watch
	if shown.Event, err = found(decode[client.Event](p.api.GetEvent(p.ctx, *watch.EventID))); err != nil || shown.Event == nil {
		return err
	}
	var body struct {
		Data struct {
			Reason string `json:"reason"`
		} `json:"data"`
	}
	if json.Unmarshal(shown.Event.Body, &body) == nil {
		shown.Reason = body.Data.Reason
	}
	shown.EventLeftOut = slices.Contains(shown.LeftOut, string(shown.Event.Type))
	most := maxTold
	made, err := decode[client.DeliveryList](p.api.ListDeliveries(p.ctx, &client.ListDeliveriesParams{WatchID: &watch.ID, Limit: &most}))
	if err != nil {
		return err
	}
	for _, delivery := range slices.Backward(made.Data) {
		told, err := p.tell(delivery.ID, known)
		if err != nil {
			return err
		}
		shown.Deliveries = append(shown.Deliveries, told)
		shown.Refresh = soonest(shown.Refresh, p.due(told.Delivery))
	}
	return nil
}

// tell asks for a delivery with its attempts.
func (p *page) tell(id string, known destinations) (toldDelivery, error) {
	delivery, err := decode[client.Delivery](p.api.GetDelivery(p.ctx, id))
	if err != nil {
		return toldDelivery{}, err
	}
	told := toldDelivery{
		Delivery: delivery, Destination: known.of(delivery.DestinationID),
		Curl: p.curl("/v1/deliveries/"+id+"/redeliver", "POST"),
	}
	if told.Destination.Name != "" {
		told.Redeliver = p.offer(storage.ScopeWrite, action{
			URL: "/deliveries/" + id + "/redeliver", Label: "Redeliver", Back: p.r.URL.Path,
			Ask: "The same event goes to " + told.Destination.Name + " again, with the same id and body, and with all retries before it.",
		})
	}
	return told, nil
}

// Waited is how long the first attempt came after the event, if that is long: the destination was disabled, or
// had asked for a pause.
func (d toldDelivery) Waited() string {
	const usual = time.Minute
	if d.Attempts == nil || len(*d.Attempts) == 0 {
		return ""
	}
	waited := (*d.Attempts)[0].StartedAt.Sub(d.CreatedAt)
	if waited < usual {
		return ""
	}
	return duration(waited)
}

// due is in how many seconds a delivery will have moved; 0 if it waits for nothing.
func (p *page) due(d client.Delivery) int {
	if d.Status != client.DeliveryPending {
		return 0
	}
	return p.after(d.NextAttemptAt)
}

// after is in how many seconds to look what came of something that is planned; 0 for nothing.
func (p *page) after(planned *time.Time) int {
	const shortest, longest = 2, 60
	if planned == nil {
		return 0
	}
	return min(max(int(planned.Sub(p.now()).Seconds())+1, shortest), longest)
}

// soonest is the sooner of two times, where 0 is never.
func soonest(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// leftOut are the ends that the watch tells nobody of.
func leftOut(w client.Watch) []string {
	var missing []string
	for _, event := range []client.OperationEventType{
		client.OperationCompleted, client.OperationFailed, client.OperationExpired, client.OperationUnobservable,
	} {
		if !slices.Contains(w.Events, event) {
			missing = append(missing, string(event))
		}
	}
	return missing
}

func cancelWatch(p *page) error {
	id := p.r.PathValue("id")
	w, err := decode[client.Watch](p.api.CancelWatch(p.ctx, id))
	if err != nil {
		return err
	}
	if w.Status != client.WatchStatusCanceled {
		return p.back("/watches/"+id, "ended")
	}
	return p.back("/watches/"+id, "canceled")
}

// title is what people know a watch by.
func title(w client.Watch) string {
	if w.Name != nil {
		return *w.Name
	}
	return w.Operation.Source + " " + short(&w.Operation.ID) // which may be a URL of 4 KB
}

// Bot says whether a Slack bot shows every end in the message that it has posted.
func (w watchPage) Bot() bool {
	return slices.ContainsFunc(w.Destinations, func(d client.Destination) bool { return d.Channel != nil })
}

// Took is how long a watch has watched.
func (w watchPage) Took() string {
	if w.Watch.FinishedAt == nil {
		return ""
	}
	return duration(w.Watch.FinishedAt.Sub(w.Watch.CreatedAt))
}

// Body is the event's, byte for byte.
func (w watchPage) Body() string { return string(w.Event.Body) }

// Late says whether the next poll should have been made long ago.
func late(now time.Time, planned *time.Time) bool {
	const patience = time.Minute
	return planned != nil && now.Sub(*planned) > patience
}
