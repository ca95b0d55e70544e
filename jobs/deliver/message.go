package deliver

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"oprelay/notifier"
	"oprelay/storage"
)

// links makes the addresses that people follow from a Slack message into the
// console: its base URL, or "" for none.
type links string

// page is one of the console's pages: about what has an id, or a list.
func (l links) page(of, id string) string {
	if l == "" {
		return ""
	}
	address := strings.TrimRight(string(l), "/") + "/" + of
	if id == "" {
		return address
	}
	return address + "/" + id
}

// list is one of the console's lists, filtered; "" if there is no console.
func (l links) list(of string, filter url.Values) string {
	if l == "" {
		return ""
	}
	return l.page(of, "") + "?" + filter.Encode()
}

// message is what to send for s, and the Slack message to update with it, if there is one.
func (l links) message(s send) (notifier.Message, storage.SlackRef) {
	switch {
	case s.digest():
		return notifier.Message{Facts: notifier.Facts{Digest: l.digest(s)}}, storage.SlackRef{}
	case len(s.progress) > 0:
		return notifier.Message{Facts: l.facts("", s.progress[0].Watch)}, s.progress[0].Slack
	}
	due := s.deliveries[0]
	return notifier.Message{EventID: due.EventID, Type: due.EventType, Body: due.Body, Facts: l.factsOf(due)}, due.Slack
}

// factsOf is what a delivery tells in Slack.
func (l links) factsOf(due storage.DueDelivery) notifier.Facts {
	switch {
	case due.Watch != nil:
		facts := l.facts(due.EventType, *due.Watch)
		facts.Reason = reason(due.Body)
		return facts
	case due.WatchID == "":
		return l.alert(due.EventType, due.Body)
	}
	return notifier.Facts{}
}

// facts tells of a watch. While it goes on, its status is how far the operation is.
func (l links) facts(eventType string, w storage.Watch) notifier.Facts {
	status := w.Status
	if status == storage.WatchWatching && w.Operation.Status != "" {
		status = w.Operation.Status
	}
	return notifier.Facts{
		Type: eventType, Status: status, WatchID: w.ID, Name: w.Name,
		Source: w.Operation.Source, Params: w.Operation.Params, OperationID: w.Operation.ID, Error: w.Operation.Error,
		StartedAt: w.CreatedAt, EndedAt: w.FinishedAt, Polls: w.Polls, Metadata: w.Metadata, Link: l.page("watches", w.ID),
	}
}

// reason reads why an event says that its watch expired or became unobservable.
func reason(body []byte) string {
	var event struct {
		Data struct {
			Reason string `json:"reason"`
		} `json:"data"`
	}
	_ = json.Unmarshal(body, &event) // the relay's own bytes; without a reason the message is no worse
	return event.Data.Reason
}

// alert tells people of an event that is not about a watch, with the texts of its data in order of
// their names.
func (l links) alert(eventType string, body []byte) notifier.Facts {
	var event struct {
		Data struct {
			DestinationID string `json:"destination_id"`
			Name          string `json:"name"`
			Reason        string `json:"reason"`
			LastError     string `json:"last_error"`
			Count         int    `json:"count"`
		} `json:"data"`
	}
	var fields struct {
		Data map[string]any `json:"data"`
	}
	_ = json.Unmarshal(body, &event) // the relay's own bytes
	_ = json.Unmarshal(body, &fields)
	data, a := event.Data, &notifier.Alert{}
	facts := notifier.Facts{Type: eventType, Alert: a, Error: data.LastError, Link: l.page("destinations", data.DestinationID)}
	switch eventType {
	case storage.EventDestinationDisabled:
		a.Title = "A destination was disabled: " + data.Name
		a.Text = whyDisabled(data.Reason) + " Its deliveries are held. Mend the receiver, then enable the destination: what is held goes out."
	case storage.EventCredentialRejected:
		a.Title = "A credential was rejected: " + data.Name
		a.Text = "The API that it is for has refused it for longer than the grace period, and its watches have ended. " +
			"Give it a secret that works for the watches to come."
		facts.Link = l.page("credentials", "")
	case storage.EventDeliveryFailed:
		a.Title = "Deliveries have failed: " + data.Name
		a.Text = fmt.Sprintf("All attempts have failed, of %s to this destination. Nothing of this is tried again by itself. "+
			"Mend the receiver, then recover the destination since the time below: what it has not accepted goes out.",
			number(data.Count, "delivery", "deliveries"))
	case storage.EventDestinationTest:
		a.Title = "A test message for " + data.Name
		a.Text = "This destination works."
	}
	for _, name := range slices.Sorted(maps.Keys(fields.Data)) {
		if value, ok := fields.Data[name].(string); ok {
			a.Fields = append(a.Fields, notifier.Field{Name: name, Value: value})
		}
	}
	return facts
}

// number is how many there are of something.
func number(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// whyDisabled says it in a sentence; last_error says what came back.
func whyDisabled(reason string) string {
	switch reason {
	case storage.DisabledGone:
		return "Its receiver says that it is gone for good."
	case storage.DisabledRejected:
		return "Slack refuses its token or its channel for good."
	case storage.DisabledFailing:
		return "It has accepted nothing for too long."
	}
	return ""
}

// send is one message that is due: a delivery, or (bot destinations only) the Slack message of a
// watch that goes on, or a digest of several of both.
type send struct {
	to         *opened // as it was when the send was claimed
	deliveries []storage.DueDelivery
	progress   []storage.DueProgress
}

// ID implements pipeline.Row. A digest is the only send that is claimed at a time.
func (s send) ID() string {
	if len(s.deliveries) > 0 {
		return s.deliveries[0].ID
	}
	return s.progress[0].WatchID
}

func (s send) digest() bool { return len(s.deliveries)+len(s.progress) > 1 }

// shown is what the message tells of by itself, and not only by a count.
func (s send) shown() ([]storage.DueDelivery, []storage.DueProgress) {
	deliveries := s.deliveries[:min(len(s.deliveries), digestLines)]
	return deliveries, s.progress[:min(len(s.progress), digestLines-len(deliveries))]
}
