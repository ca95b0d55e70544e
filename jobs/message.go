package jobs

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"oprelay/notifier"
	"oprelay/storage"
)

// links makes the addresses that people follow from a Slack message into the
// console: its base URL, or "" for none.
type links string

func (l links) watch(id string) string {
	if l == "" {
		return ""
	}
	return strings.TrimRight(string(l), "/") + "/watches/" + id
}

// message is what an errand has to say, and the Slack message that says it so far.
func (l links) message(e errand) (notifier.Message, storage.SlackRef) {
	if e.progress != nil {
		return notifier.Message{Facts: l.facts("", e.progress.Watch)}, e.progress.Slack
	}
	due := e.delivery
	m := notifier.Message{EventID: due.EventID, Type: due.EventType, Body: due.Body}
	switch {
	case due.Watch != nil:
		m.Facts = l.facts(due.EventType, *due.Watch)
		m.Facts.Reason = reason(due.Body)
	case due.WatchID == "":
		m.Facts = notifier.Facts{Type: due.EventType, Alert: alert(due.EventType, due.Body)}
	}
	return m, due.Slack
}

// facts tells of a watch. While it goes on, its status is how far the operation is.
func (l links) facts(eventType string, w storage.Watch) notifier.Facts {
	status := w.Status
	if status == storage.WatchWatching && w.Operation.Status != "" {
		status = w.Operation.Status
	}
	return notifier.Facts{
		Type: eventType, Status: status, WatchID: w.ID,
		Source: w.Operation.Source, AccountID: w.Operation.AccountID, OperationID: w.Operation.ID, Error: w.Operation.Error,
		StartedAt: w.CreatedAt, EndedAt: w.FinishedAt, Polls: w.Polls, Metadata: w.Metadata, Link: l.watch(w.ID),
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

// alert renders an event that is not about a watch for people: the fields of its
// data, in order of their names.
func alert(eventType string, body []byte) *notifier.Alert {
	var event struct {
		Data map[string]any `json:"data"`
	}
	_ = json.Unmarshal(body, &event)
	a := &notifier.Alert{}
	name, _ := event.Data["name"].(string)
	switch eventType {
	case storage.EventDestinationDisabled:
		a.Title = "A destination was disabled: " + name
		a.Text = "Its deliveries are held. Mend the receiver, then enable the destination: what is held goes out."
	case storage.EventCredentialRejected:
		a.Title = "A credential was rejected: " + name
		a.Text = "Cloudflare has refused it for longer than the grace period, and its watches have ended. Register a credential that works."
	case storage.EventDestinationTest:
		a.Title = "A test message for " + name
		a.Text = "This destination works."
	}
	for _, name := range slices.Sorted(maps.Keys(event.Data)) {
		if value, ok := event.Data[name].(string); ok {
			a.Fields = append(a.Fields, notifier.Field{Name: name, Value: value})
		}
	}
	return a
}
