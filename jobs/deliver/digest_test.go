package deliver

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/notifier"
	"oprelay/storage"
)

// many are n deliveries of a kind, each named after its kind and its place.
func many(n int, kind string, edit func(*storage.DueDelivery)) []storage.DueDelivery {
	due := make([]storage.DueDelivery, n)
	for i := range due {
		due[i] = storage.DueDelivery{ID: fmt.Sprint(kind, i), EventType: storage.EventOperationCompleted, WatchID: "watch"}
		edit(&due[i])
	}
	return due
}

func TestNextMessage(t *testing.T) {
	t.Parallel()
	tests := func(n int) []storage.DueDelivery {
		return many(n, "test", func(d *storage.DueDelivery) { d.EventType, d.WatchID = storage.EventDestinationTest, "" })
	}
	alerts := func(n int) []storage.DueDelivery {
		return many(n, "alert", func(d *storage.DueDelivery) { d.EventType, d.WatchID = storage.EventDeliveryFailed, "" })
	}
	ends := func(n int) []storage.DueDelivery { return many(n, "end", func(*storage.DueDelivery) {}) }
	failed := many(2, "failed", func(d *storage.DueDelivery) { d.EventType = storage.EventOperationFailed })
	updates := many(20, "update", func(d *storage.DueDelivery) { d.Slack = storage.SlackRef{Channel: "C1", TS: "1.5"} })
	progress := func(n int, ts string) []storage.DueProgress {
		due := make([]storage.DueProgress, n)
		for i := range due {
			due[i] = storage.DueProgress{WatchID: fmt.Sprint("progress", ts, i), Status: storage.WatchWatching, Slack: storage.SlackRef{TS: ts}}
		}
		return due
	}
	begun, moved := func(n int) []storage.DueProgress { return progress(n, "") }, progress(20, "1.5")
	for name, test := range map[string]struct {
		due       []storage.DueDelivery
		progress  []storage.DueProgress
		gathering bool
		first     string // what comes first in the message; "" for no message
		n         int    // what the message tells of
	}{
		"nothing":                     {},
		"few":                         {due: ends(10), first: "end0", n: 1},
		"more than ten":               {due: ends(11), first: "end0", n: 11},
		"failures first":              {due: append(ends(20), failed...), first: "failed0", n: 22},
		"few with a failure":          {due: append(ends(8), failed...), first: "failed0", n: 1},
		"a failure before tests":      {due: append(tests(8), failed...), first: "failed0", n: 1},
		"an alert before failures":    {due: append(failed, alerts(1)...), first: "alert0", n: 1},
		"a test before ends":          {due: append(ends(5), tests(5)...), first: "test0", n: 1},
		"many tests":                  {due: append(tests(25), failed...), first: "failed0", n: 27},
		"many alerts":                 {due: append(ends(20), alerts(11)...), first: "alert0", n: 31},
		"an alert and many ends":      {due: append(ends(20), alerts(1)...), first: "alert0", n: 21},
		"all kinds together":          {due: slices.Concat(ends(3), tests(3), alerts(3)), progress: begun(2), first: "alert0", n: 11},
		"more than one digest":        {due: append(ends(1500), failed...), first: "failed0", n: digestMost},
		"updates are no digest":       {due: updates, first: "update0", n: 1},
		"a digest before updates":     {due: append(updates, ends(11)...), first: "end0", n: 11},
		"ends and begins":             {due: ends(6), progress: begun(5), first: "end0", n: 11},
		"few of both":                 {due: ends(5), progress: begun(5), first: "end0", n: 1},
		"begins":                      {progress: append(moved, begun(11)...), first: "progress0", n: 11},
		"few begins":                  {progress: append(moved, begun(10)...), first: "progress0", n: 1},
		"moves":                       {progress: moved, first: "progress1.50", n: 1},
		"gathering":                   {due: ends(500), progress: begun(20), gathering: true},
		"few while gathering":         {due: append(ends(8), failed...), gathering: true, first: "failed0", n: 1},
		"a few begin while gathering": {progress: append(moved, begun(10)...), gathering: true, first: "progress0", n: 1},
		"updates while gathering":     {due: append(ends(500), updates...), gathering: true, first: "update0", n: 1},
		"moves while gathering":       {due: ends(11), progress: append(begun(1), moved...), gathering: true, first: "progress1.50", n: 1},
		"many alerts while gathering": {due: alerts(11), gathering: true},
	} {
		s := nextMessage(slices.Clone(test.due), slices.Clone(test.progress), test.gathering)
		n, first := len(s.deliveries)+len(s.progress), ""
		if n > 0 {
			first = s.ID()
		}
		if n != test.n || first != test.first {
			t.Errorf("%s: a message of %d, %q first; want %d, %q first", name, n, first, test.n, test.first)
		}
	}
}

// What a digest tells can be found again in the console.
func TestDigestLinks(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	s := send{to: &opened{Destination: storage.Destination{ID: "destination_1"}}, deliveries: many(12, "end", func(d *storage.DueDelivery) {
		at = at.Add(100 * time.Millisecond)
		d.CreatedAt, d.Watch = at, &storage.Watch{ID: "watch_1", Status: storage.WatchCompleted}
	})}
	s.deliveries[0].EventType = storage.EventOperationFailed
	begun := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	s.progress = []storage.DueProgress{{Status: storage.WatchWatching, CreatedAt: begun}}
	d := links("https://relay.example.com/").digest(s)
	const made = "https://relay.example.com/deliveries?created_after=2026-11-23T10%3A00%3A00Z&created_before=2026-11-23T10%3A00%3A02Z" +
		"&destination_id=destination_1"
	const registered = "https://relay.example.com/watches?created_after=2026-11-23T08%3A59%3A59Z&created_before=2026-11-23T09%3A00%3A01Z" +
		"&destination_id=destination_1"
	want := []notifier.Count{
		{Status: "failed", N: 1, Link: made + "&event_type=operation.failed"},
		{Status: "completed", N: 11, Link: made + "&event_type=operation.completed"},
		{Status: "watching", N: 1, Link: registered},
	}
	if d.Link != made || !slices.Equal(d.Counts, want) || len(d.First) != digestLines || d.First[0].Link != "https://relay.example.com/watches/watch_1" {
		t.Errorf("got %+v", d)
	}
	s.deliveries, s.progress = nil, slices.Repeat(s.progress, 11)
	s.progress[0].Status = storage.WatchFailed // meanwhile, and it asks for no event of that
	want = []notifier.Count{{Status: "failed", N: 1, Link: registered + "&status=failed"}, {Status: "watching", N: 10, Link: registered}}
	if d = links("https://relay.example.com").digest(s); d.Link != registered || !slices.Equal(d.Counts, want) {
		t.Errorf("of what begins: %+v", d)
	}
	if d = links("").digest(s); d.Link != "" || d.Counts[0].Link != "" {
		t.Errorf("without a console: %+v", d)
	}
}

// An alert says what happened, why, and what to do.
func TestAlerts(t *testing.T) {
	t.Parallel()
	for event, test := range map[string]struct{ body, title, text, link string }{
		storage.EventDestinationDisabled: {
			`{"destination_id":"d1","name":"ops","reason":"rejected","last_error":"Slack answered is_archived"}`,
			"A destination was disabled: ops", "Slack refuses its token or its channel for good. Its deliveries are held.", "/destinations/d1",
		},
		storage.EventDeliveryFailed: {
			`{"destination_id":"d1","name":"ops","count":12,"since":"2026-11-23T10:00:00Z","last_error":"Slack answered is_archived"}`,
			"Deliveries have failed: ops", "12 deliveries", "/destinations/d1",
		},
		storage.EventDeliveryFailed + " of one": {
			`{"destination_id":"d1","name":"ops","count":1,"since":"2026-11-23T10:00:00Z"}`, "Deliveries have failed: ops", "of 1 delivery to", "/destinations/d1",
		},
		storage.EventCredentialRejected: {`{"credential_id":"c1","name":"ops"}`, "A credential was rejected: ops", "Give it a secret", "/credentials"},
		storage.EventDestinationTest:    {`{"destination_id":"d1","name":"ops"}`, "A test message for ops", "works", "/destinations/d1"},
	} {
		event, _, _ = strings.Cut(event, " ")
		facts := links("https://relay.example.com").alert(event, []byte(`{"data":`+test.body+`}`))
		said := strings.Contains(test.body, "last_error")
		shown := slices.Contains(facts.Alert.Fields, notifier.Field{Name: "last_error", Value: "Slack answered is_archived"})
		if facts.Alert.Title != test.title || !strings.Contains(facts.Alert.Text, test.text) ||
			facts.Link != "https://relay.example.com"+test.link || shown != said || said != (facts.Error != "") {
			t.Errorf("%s: %+v, %+v", event, facts, facts.Alert)
		}
	}
}
