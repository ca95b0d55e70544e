package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/slacktest"
	"oprelay/notifier/webhooktest"
)

// 50 watches on one operation cost the polls of one, and make 50 events.
func TestWatchesOfOneOperationShareItsPolls(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	destination, credential := s.webhook(t), s.credential(t, "token")
	operation := s.add(simulator.Plan{End: simulator.EndNever})
	const half = 25
	same := make([]string, half)
	for i := range same {
		same[i] = operation
	}
	watches := s.watches(t, credential, destination, same)
	for range half { // one by one, while the polls go on
		watches = append(watches, s.watch(t, client.NewWatch{
			OperationID: operation, CredentialID: credential, DestinationIds: []string{destination},
		}))
	}
	if err := s.upstream.Add(testAccount, operation, simulator.Plan{RunningFor: time.Second}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.receiver.Wait(deadline(t, startLimit), webhooktest.Verified(len(watches))); err != nil {
		t.Fatalf("%v; %d of %d events arrived", err, len(s.receiver.Arrivals()), len(watches))
	}
	asked := s.requests(operation)
	events := map[string]bool{}
	for _, w := range watches {
		w := s.look(t, w.ID)
		if w.Status != client.WatchStatusCompleted || w.Polls != len(asked) {
			t.Errorf("watch %s is %s after %d polls, want completed after the %d that the upstream counted", w.ID, w.Status, w.Polls, len(asked))
		}
		events[*w.EventID] = true
	}
	for _, a := range s.receiver.Arrivals() {
		if !events[a.ID] {
			t.Errorf("event %s is not that of a watch, or arrived twice", a.ID)
		}
		delete(events, a.ID)
	}
	for i := 1; i < len(asked); i++ {
		// The shortest delay of 200 ms is jittered by 10%.
		if gap := asked[i].Time.Sub(asked[i-1].Time); gap < 150*time.Millisecond {
			t.Errorf("polls %d and %d are %s apart", i, i+1, gap)
		}
	}
}

// A bot's message begins with the watch and is the same one to its end; an
// incoming webhook gets one message, at the end.
func TestSlackFollowsAnOperation(t *testing.T) {
	t.Parallel()
	s := startEmbedded(t, newSurroundings(t))
	bot := s.destination(t, client.NewDestination{Type: client.DestinationSlack, BotToken: new(testBot), Channel: new("C0DEPLOYS")})
	hook := s.destination(t, client.NewDestination{Type: client.DestinationSlack, WebhookURL: new(s.slackURL + slacktest.WebhookPath)})
	operation := s.add(simulator.Plan{PendingFor: 2 * time.Second, RunningFor: 2 * time.Second, End: simulator.EndFailed, Error: "<!channel> is full"})
	w := s.watch(t, client.NewWatch{
		OperationID: operation, CredentialID: s.credential(t, "token"), DestinationIds: []string{bot, hook},
	})
	messages, err := s.slack.Wait(deadline(t, startLimit), func(messages []slacktest.Message) bool {
		return len(messages) == 2 && says(messages[0], "failed") && says(messages[1], "failed")
	})
	if err != nil {
		t.Fatalf("%v; Slack has %s", err, pretty(messages))
	}
	if w := s.look(t, w.ID); w.Status != client.WatchStatusFailed {
		t.Errorf("the watch is %s", w.Status)
	}
	for _, m := range messages {
		byBot := m.Channel == "C0DEPLOYS"
		if byBot != (len(m.History) > 0) {
			t.Errorf("the message in %s was updated %d times", m.Channel, len(m.History))
		}
		if strings.Contains(m.Text, "<!channel>") || strings.Contains(string(m.Blocks), "<!channel>") {
			t.Errorf("the upstream's error mentions people: %s", m.Blocks)
		}
	}
}

func says(m slacktest.Message, word string) bool {
	return strings.Contains(strings.ToLower(m.Text), word)
}

// deadline is the test's context with an end of its own.
func deadline(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}
