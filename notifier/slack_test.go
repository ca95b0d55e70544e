package notifier_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"oprelay/notifier"
	"oprelay/notifier/slacktest"
	"oprelay/notifier/webhooktest"
)

// slackBot is a client and the Slack it talks to, in which the channel C1 exists.
func slackBot(t *testing.T) (*notifier.Client, *slacktest.Server) {
	t.Helper()
	slack := slacktest.New(slacktest.Options{Token: "xoxb-1", Channels: []string{"C1"}})
	base := serve(t, slack)
	return newClient(t, func(cfg *notifier.Config) { cfg.SlackURL = base + slacktest.APIPath }), slack
}

func TestSlackBotUpdatesItsMessage(t *testing.T) {
	t.Parallel()
	client, slack := slackBot(t)
	var ref notifier.SlackRef
	for _, status := range []string{"watching", "running", "completed"} {
		outcome, err := client.SendSlackBot(t.Context(), "xoxb-1", "C1", ref, notifier.Message{Facts: testFacts(status)})
		if err != nil {
			t.Fatal(err)
		}
		if !ref.IsZero() && outcome.Slack != ref {
			t.Errorf("%s: the message moved from %v to %v", status, ref, outcome.Slack)
		}
		ref = outcome.Slack
	}
	messages := slack.Messages()
	if len(messages) != 1 || len(messages[0].History) != 2 || !strings.Contains(messages[0].Text, "completed") {
		t.Errorf("got %+v, want one message with two earlier versions", messages)
	}
}

func TestSlackBotPostsAnewWhatIsGone(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found"} {
		client, slack := slackBot(t)
		slack.FailNext(1, slacktest.Failure{Error: code})
		old := notifier.SlackRef{Channel: "C1", TS: "1.000000"}
		outcome, err := client.SendSlackBot(t.Context(), "xoxb-1", "C1", old, testMessage())
		if err != nil || outcome.Slack.IsZero() || outcome.Slack == old || len(slack.Messages()) != 1 {
			t.Errorf("%s: got %v, %v", code, outcome.Slack, err)
		}
	}
	client, slack := slackBot(t)
	slack.FailNext(1, slacktest.Failure{Status: http.StatusInternalServerError})
	_, err := client.SendSlackBot(t.Context(), "xoxb-1", "C1", notifier.SlackRef{Channel: "C1", TS: "1.0"}, testMessage())
	if err == nil || slack.Requests() != 1 {
		t.Errorf("a passing error made it post anew: %v, %d requests", err, slack.Requests())
	}
}

func TestSlackBotFailures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		failure slacktest.Failure
		kind    notifier.Kind
		retry   time.Duration
		text    string
	}{
		{"channel_not_found", slacktest.Failure{Error: "channel_not_found"}, notifier.Rejected, 0, "channel_not_found"},
		{"is_archived", slacktest.Failure{Error: "is_archived"}, notifier.Rejected, 0, "is_archived"},
		{"invalid_auth", slacktest.Failure{Error: "invalid_auth"}, notifier.Rejected, 0, "invalid_auth"},
		{"token_revoked", slacktest.Failure{Error: "token_revoked"}, notifier.Rejected, 0, "token_revoked"},
		{"account_inactive", slacktest.Failure{Error: "account_inactive"}, notifier.Rejected, 0, "account_inactive"},
		{"not_in_channel", slacktest.Failure{Error: "not_in_channel"}, notifier.Rejected, 0, "not_in_channel"},
		{"missing_scope", slacktest.Failure{Error: "missing_scope"}, notifier.Rejected, 0, "missing_scope"},
		{"restricted", slacktest.Failure{Error: "restricted_action_read_only_channel"}, notifier.Rejected, 0, "read_only"},
		{"internal", slacktest.Failure{Error: "internal_error"}, notifier.Passing, 0, "internal_error"},
		{"fatal", slacktest.Failure{Error: "fatal_error"}, notifier.Passing, 0, "fatal_error"},
		{"blocks", slacktest.Failure{Error: "invalid_blocks"}, notifier.Passing, 0, "invalid_blocks"},
		{"limited as a code", slacktest.Failure{Error: "ratelimited"}, notifier.RateLimited, 0, "ratelimited"},
		{"limited", slacktest.Failure{Status: 429, RetryAfter: "30"}, notifier.RateLimited, 30 * time.Second, "429"},
		{"limited with a code", slacktest.Failure{Status: 429, RetryAfter: "30", Error: "ratelimited"}, notifier.RateLimited, 30 * time.Second, "429"},
		{"limited, no time", slacktest.Failure{Status: 429}, notifier.RateLimited, 0, "429"},
		{"limited, odd time", slacktest.Failure{Status: 429, RetryAfter: "soon"}, notifier.RateLimited, 0, "429"},
		{"500", slacktest.Failure{Status: 500, Body: "<html>"}, notifier.Passing, 0, "500 Internal Server Error"},
		{"503 with time", slacktest.Failure{Status: 503, RetryAfter: "7"}, notifier.Passing, 7 * time.Second, "503"},
		{"403 at the edge", slacktest.Failure{Status: 403, Body: "<html>"}, notifier.Passing, 0, "403"},
		{"302", slacktest.Failure{Status: 302}, notifier.Passing, 0, "302"},
		{"not JSON", slacktest.Failure{Body: "<html>"}, notifier.Passing, 0, "could not be read"},
		{"truncated", slacktest.Failure{Body: `{"ok":tr`}, notifier.Passing, 0, "could not be read"},
		{"empty", slacktest.Failure{}, notifier.Passing, 0, "could not be read"},
		{"no fields", slacktest.Failure{Body: `{}`}, notifier.Passing, 0, "could not be read"},
		{"no error code", slacktest.Failure{Body: `{"ok":false}`}, notifier.Passing, 0, "could not be read"},
		{"odd error code", slacktest.Failure{Body: `{"ok":false,"error":"<MARKER>"}`}, notifier.Passing, 0, "unknown error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client, slack := slackBot(t)
			slack.FailNext(1, tt.failure)
			outcome, err := client.SendSlackBot(t.Context(), "xoxb-1", "C1", notifier.SlackRef{}, testMessage())
			failure := failureOf(t, err)
			if failure.Kind != tt.kind || failure.RetryAfter != tt.retry || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, retry after %v: %v", failure.Kind, failure.RetryAfter, err)
			}
			if strings.Contains(err.Error(), "MARKER") || outcome.StatusCode != max(tt.failure.Status, http.StatusOK) {
				t.Errorf("got status %d: %v", outcome.StatusCode, err)
			}
			if slack.Requests() != 1 {
				t.Errorf("%d requests for one send", slack.Requests())
			}
		})
	}
}

func TestSlackBotWithoutAccess(t *testing.T) {
	t.Parallel()
	client, _ := slackBot(t)
	for _, tt := range []struct{ token, channel, want string }{
		{"xoxb-2", "C1", "invalid_auth"}, {"xoxb-1", "C2", "channel_not_found"},
	} {
		_, err := client.SendSlackBot(t.Context(), tt.token, tt.channel, notifier.SlackRef{}, testMessage())
		if failure := failureOf(t, err); failure.Kind != notifier.Rejected || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

func TestSlackWebhook(t *testing.T) {
	t.Parallel()
	slack := slacktest.New(slacktest.Options{})
	outcome, err := newClient(t, nil).SendSlackWebhook(t.Context(), serve(t, slack)+slacktest.WebhookPath, testMessage())
	if err != nil || outcome.StatusCode != http.StatusOK || string(outcome.Body) != "ok" || !outcome.Slack.IsZero() {
		t.Errorf("got %+v, %v", outcome, err)
	}
	if messages := slack.Messages(); len(messages) != 1 || !strings.Contains(messages[0].Text, "maximum number of items") {
		t.Errorf("got %+v", messages)
	}
}

func TestSlackWebhookFailures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status  int
		text    string
		kind    notifier.Kind
		retries bool
	}{
		{404, "no_service", notifier.Gone, false},
		{404, "", notifier.Gone, false},
		{410, "channel_is_archived", notifier.Gone, false},
		{403, "action_prohibited", notifier.Rejected, false},
		{403, "invalid_token", notifier.Rejected, false},
		{403, "posting_to_general_channel_denied", notifier.Rejected, false},
		{400, "user_not_found", notifier.Rejected, false},
		{400, "invalid_payload", notifier.Passing, false},
		{400, "<html>", notifier.Passing, false},
		{403, "", notifier.Passing, false},
		{302, "", notifier.Passing, false},
		{500, "rollup_error", notifier.Passing, false},
		{500, "no_service", notifier.Passing, false},
		{503, "", notifier.Passing, true},
		{429, "rate_limited", notifier.RateLimited, true},
	}
	slack := slacktest.New(slacktest.Options{})
	to := serve(t, slack) + slacktest.WebhookPath
	client := newClient(t, nil)
	for _, tt := range tests {
		slack.FailNext(1, slacktest.Failure{Status: tt.status, Error: tt.text, RetryAfter: "60"})
		outcome, err := client.SendSlackWebhook(t.Context(), to, testMessage())
		failure := failureOf(t, err)
		if failure.Kind != tt.kind || (failure.RetryAfter == time.Minute) != tt.retries || outcome.StatusCode != tt.status {
			t.Errorf("%d %s: got %d, %v, retry after %v", tt.status, tt.text, outcome.StatusCode, failure.Kind, failure.RetryAfter)
		}
	}
}

func TestSlackRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := webhooktest.New()
	redirect := http.RedirectHandler(serve(t, elsewhere), http.StatusTemporaryRedirect)
	base := serve(t, redirect)
	client := newClient(t, func(cfg *notifier.Config) { cfg.SlackURL = base })
	_, webhookErr := client.SendSlackWebhook(t.Context(), base, testMessage())
	_, botErr := client.SendSlackBot(t.Context(), "xoxb-1", "C1", notifier.SlackRef{}, testMessage())
	if webhookErr == nil || botErr == nil || len(elsewhere.Arrivals()) != 0 {
		t.Errorf("got %v, %v and %d arrivals elsewhere", webhookErr, botErr, len(elsewhere.Arrivals()))
	}
}

func TestSlackAnswersAreBounded(t *testing.T) {
	t.Parallel()
	flood := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { endless(w, make([]byte, 64<<10)) }))
	drip := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "o")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	outcome, err := newClient(t, nil).SendSlackWebhook(t.Context(), flood, testMessage())
	if err != nil || len(outcome.Body) != 4096 {
		t.Errorf("flood: got %d bytes, %v", len(outcome.Body), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	client := newClient(t, func(cfg *notifier.Config) { cfg.SlackURL = drip })
	_, webhookErr := client.SendSlackWebhook(ctx, drip, testMessage())
	_, botErr := client.SendSlackBot(ctx, "xoxb-1", "C1", notifier.SlackRef{}, testMessage())
	if !errors.Is(webhookErr, context.DeadlineExceeded) || !errors.Is(botErr, context.DeadlineExceeded) {
		t.Errorf("drip: got %v and %v", webhookErr, botErr)
	}
}
