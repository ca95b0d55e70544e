package main

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
	"oprelay/notifier/slacktest"
)

// asShipped leaves the pace of polls, deliveries and retries at their defaults.
var asShipped = []string{
	"RELAY_POLL_MIN", "", "RELAY_POLL_MAX", "", "RELAY_POLL_BUDGET", "", "RELAY_POLL_EGRESS_BUDGET", "",
	"RELAY_UNOBSERVABLE_AFTER", "", "RELAY_RETRY_SCHEDULE", "", "RELAY_DELIVERY_TIMEOUT", "",
}

// 500 watches of an operation end at once. Slack asks for a pause, and the worker is killed while
// the next digest is under way: the channel gets a handful of messages, which tell of all ends.
func TestBurstAtSlackThroughAKill(t *testing.T) {
	t.Parallel()
	deployed := map[string]func(t *testing.T) (s *system, replace func()){
		"serve, embedded": func(t *testing.T) (*system, func()) {
			t.Helper()
			s := startEmbedded(t, newSurroundings(t), asShipped...)
			return s, func() { s.server.Kill(); s.restart() }
		},
		"worker, PostgreSQL, Redis": func(t *testing.T) (*system, func()) {
			t.Helper()
			s := startSeparate(t, newSurroundings(t), testenv.Redis(t), 1, asShipped...)
			return s, func() { s.workers[0].Kill(); s.addWorker() }
		},
	}
	for where, start := range deployed {
		for _, bot := range []bool{false, true} {
			t.Run(where+", bot "+strconv.FormatBool(bot), func(t *testing.T) {
				t.Parallel()
				s, replace := start(t)
				burstThroughAKill(t, s, bot, replace)
			})
		}
	}
}

func burstThroughAKill(t *testing.T, s *system, bot bool, replace func()) {
	t.Helper()
	const n = 500
	to := client.NewDestination{Type: client.DestinationSlack, WebhookURL: new(s.slackURL + slacktest.WebhookPath)}
	if bot {
		to = client.NewDestination{Type: client.DestinationSlack, BotToken: new(testBot), Channel: new("C0BURST")}
	}
	id, operation := s.destination(t, to), s.add(simulator.Plan{RunningFor: time.Hour})
	same := make([]string, n)
	for i := range same {
		same[i] = operation
	}
	s.watches(t, s.credential(t, "token"), id, same)
	begun := 0
	if bot {
		begun = 1
		if _, err := s.slack.Wait(deadline(t, startLimit), func(m []slacktest.Message) bool { return len(m) == begun }); err != nil {
			t.Fatal(err)
		}
	}
	s.slack.FailNext(1, slacktest.Failure{Status: http.StatusTooManyRequests, RetryAfter: "2"})
	s.slack.FailNext(1, slacktest.Failure{Hang: true})
	if err := s.upstream.Add(testAccount, operation, simulator.Plan{End: simulator.EndFailed, Error: "no luck"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, startLimit, "Slack has refused one message, and is at the next", func() bool { return s.slack.Requests() == begun+2 })
	replace()

	succeeded := client.ListDeliveriesParams{Status: new(client.DeliverySucceeded), DestinationID: &id}
	eventually(t, time.Minute, "every delivery has succeeded", func() bool { return len(s.deliveries(t, succeeded)) == n })
	messages := s.slack.Messages()
	if told := endsTold(t, messages); told != n || len(messages) > begun+4 {
		t.Errorf("%d messages tell of %d ends:\n%s", len(messages), told, pretty(messages))
	}
	if bot && !strings.Contains(messages[0].Text, "Watching 500 operations") {
		t.Errorf("the burst of registrations is told as %q", messages[0].Text)
	}
}

// endsTold is of how many failed operations the messages tell.
func endsTold(t *testing.T, messages []slacktest.Message) (n int) {
	t.Helper()
	for _, m := range messages {
		if many := regexp.MustCompile(`of (\d+) operations? failed`).FindStringSubmatch(m.Text); many != nil {
			ends, err := strconv.Atoi(many[1])
			if err != nil {
				t.Fatal(err)
			}
			n += ends
		} else if says(m, "operation failed") {
			n++
		}
	}
	return n
}
