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
	slack.FailNext(1, slacktest.Failure{Status: http.StatusNotFound, Body: `{"ok":false,"error":"message_not_found"}`})
	_, err := client.SendSlackBot(t.Context(), "xoxb-1", "C1", notifier.SlackRef{Channel: "C1", TS: "1.0"}, testMessage())
	if err != nil || len(slack.Messages()) != 1 {
		t.Errorf("message_not_found with 404: %v, %d messages", err, len(slack.Messages()))
	}
	client, slack = slackBot(t)
	slack.FailNext(1, slacktest.Failure{Status: http.StatusInternalServerError})
	_, err = client.SendSlackBot(t.Context(), "xoxb-1", "C1", notifier.SlackRef{Channel: "C1", TS: "1.0"}, testMessage())
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
		{"503 with time", slacktest.Failure{Status: 503, RetryAfter: "7"}, notifier.RateLimited, 7 * time.Second, "503"},
		{"403 at the edge", slacktest.Failure{Status: 403, Body: "<html>"}, notifier.Passing, 0, "403"},
		{"403 with a code", slacktest.Failure{Status: 403, Body: `{"ok":false,"error":"invalid_auth"}`}, notifier.Rejected, 0, "invalid_auth (403 Forbidden)"},
		{"404 with a code", slacktest.Failure{Status: 404, Body: `{"ok":false,"error":"channel_not_found"}`}, notifier.Rejected, 0, "channel_not_found (404 Not Found)"},
		{"400 with a passing code", slacktest.Failure{Status: 400, Body: `{"ok":false,"error":"invalid_blocks"}`}, notifier.Passing, 0, "invalid_blocks (400 Bad Request)"},
		{"400 that limits", slacktest.Failure{Status: 400, Body: `{"ok":false,"error":"ratelimited"}`}, notifier.RateLimited, 0, "ratelimited"},
		{"429 with a permanent code", slacktest.Failure{Status: 429, RetryAfter: "30", Body: `{"ok":false,"error":"invalid_auth"}`}, notifier.RateLimited, 30 * time.Second, "429"},
		{"500 with a code", slacktest.Failure{Status: 500, Body: `{"ok":false,"error":"internal_error"}`}, notifier.Passing, 0, "500 Internal Server Error: internal_error"},
		{"503 with a permanent code", slacktest.Failure{Status: 503, Body: `{"ok":false,"error":"invalid_auth"}`}, notifier.Passing, 0, "503 Service Unavailable: invalid_auth"},
		{"403 of another's JSON", slacktest.Failure{Status: 403, Body: `{"error":"invalid_auth"}`}, notifier.Passing, 0, "Slack answered 403 Forbidden"},
		{"403 of a gateway's JSON", slacktest.Failure{Status: 403, Body: `{"success":false,"error":"invalid_auth"}`}, notifier.Passing, 0, "Slack answered 403 Forbidden"},
		{"403 with an odd code", slacktest.Failure{Status: 403, Body: `{"ok":false,"error":"MARKER of the request"}`}, notifier.Passing, 0, "Slack answered 403 Forbidden"},
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
		foreign bool // the error says that these are not Slack's words
	}{
		{404, "no_service", notifier.Gone, false, false},
		{404, "channel_not_found\n", notifier.Gone, false, false},
		{410, "channel_is_archived", notifier.Gone, false, false},
		{403, "action_prohibited", notifier.Rejected, false, false},
		{403, "invalid_token", notifier.Rejected, false, false},
		{403, "posting_to_general_channel_denied", notifier.Rejected, false, false},
		{403, "channel_not_found", notifier.Rejected, false, false},
		{403, "invalid_auth", notifier.Rejected, false, false},
		{403, "token_revoked", notifier.Rejected, false, false},
		{403, "not_in_channel", notifier.Rejected, false, false},
		{403, "missing_scope", notifier.Rejected, false, false},
		{403, "restricted_action_read_only_channel", notifier.Rejected, false, false},
		{404, "is_archived", notifier.Gone, false, false},
		{410, "is_archived", notifier.Gone, false, false},
		{403, "invalid_payload", notifier.Passing, false, false},
		{404, "rollup_error", notifier.Passing, false, false},
		{401, "invalid_auth", notifier.Passing, false, false},
		{400, "invalid_payload", notifier.Passing, false, false},
		{400, "user_not_found", notifier.Passing, false, false},
		{400, "<html>", notifier.Passing, false, false},
		{302, "", notifier.Passing, false, false},
		{500, "rollup_error", notifier.Passing, false, false},
		{500, "no_service", notifier.Passing, false, false},
		{503, "", notifier.RateLimited, true, false},
		{429, "rate_limited", notifier.RateLimited, true, false},
		// what stands before Slack, or in its place
		{404, "", notifier.Passing, false, true},
		{404, "default backend - 404", notifier.Passing, false, true},
		{404, "404 page not found\n", notifier.Passing, false, true},
		{404, "not_found", notifier.Passing, false, true},
		{404, "no_service no_service", notifier.Passing, false, true},
		{404, `{"ok":false,"error":"no_service"}`, notifier.Passing, false, true},
		{410, "gone", notifier.Passing, false, true},
		{403, "forbidden", notifier.Passing, false, true},
		{410, "", notifier.Passing, false, true},
		{410, "<html>no_service</html>", notifier.Passing, false, true},
		{403, "", notifier.Passing, false, true},
		{403, "<html>", notifier.Passing, false, true},
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
		if want := "Slack answered " + strings.TrimSpace(tt.text); tt.kind == notifier.Gone && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%d %s: it says %v, want %s", tt.status, tt.text, err, want)
		}
		if strings.Contains(err.Error(), "not in Slack's words") != tt.foreign {
			t.Errorf("%d %s: it says %v", tt.status, tt.text, err)
		}
	}
}

// An incoming webhook has accepted with any 2xx, whatever it says but that it has not.
func TestSlackWebhookAccepts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		body   string
		fault  string // part of the error; empty = accepted
	}{
		{200, "ok", ""},
		{200, "", ""},
		{200, "<html>", ""},
		{201, "", ""},
		{202, "ok", ""},
		{202, `{"ok":true}`, ""},
		{204, "", ""},
		{299, "", ""},
		{200, `{"ok":true,"error":"late"}`, ""},
		{200, `{"success":true}`, ""},
		{200, `{"error":"x"}`, ""},
		{200, `{"ok":null}`, ""},
		{200, `{"ok":"false"}`, ""},
		{200, `{"ok":false} and more`, ""},
		{200, `[{"ok":false}]`, ""},
		{200, `false`, ""},
		{200, `{"ok":false}`, "its body tells more"},
		{202, ` {"ok":false}` + "\n", "202 Accepted"},
		{200, `{"ok":false,"error":"channel_not_found"}`, "channel_not_found"},
		{200, `{"success":false,"error":"MARKER of the request"}`, "its body tells more"},
		{201, `{"success":false,"error":{"code":4}}`, "201 Created"},
		{200, `{"ok":true,"success":false}`, "not accepted"},
		{200, `{"ok":"x","success":false}`, "not accepted"},
	}
	slack := slacktest.New(slacktest.Options{})
	to := serve(t, slack) + slacktest.WebhookPath
	client := newClient(t, nil)
	for _, tt := range tests {
		slack.FailNext(1, slacktest.Failure{Status: tt.status, Body: tt.body})
		outcome, err := client.SendSlackWebhook(t.Context(), to, testMessage())
		if outcome.StatusCode != tt.status || string(outcome.Body) != tt.body {
			t.Errorf("%d %s: got %+v", tt.status, tt.body, outcome)
		}
		if tt.fault == "" {
			if err != nil {
				t.Errorf("%d %s: %v", tt.status, tt.body, err)
			}
			continue
		}
		failure := failureOf(t, err)
		if failure.Kind != notifier.Passing || !strings.Contains(err.Error(), tt.fault) || strings.Contains(err.Error(), "MARKER") {
			t.Errorf("%d %s: got %v: %v", tt.status, tt.body, failure.Kind, err)
		}
	}
}

// A bot's call goes by what the answer says, with any 2xx: a proxy may make a 200 another.
func TestSlackBotAccepts(t *testing.T) {
	t.Parallel()
	client, slack := slackBot(t)
	for status, body := range map[int]string{
		202: `{"ok":true,"channel":"C1","ts":"1.000001"}`, 204: "", 201: `{"ok":false,"error":"is_archived"}`,
	} {
		slack.FailNext(1, slacktest.Failure{Status: status, Body: body})
		outcome, err := client.SendSlackBot(t.Context(), "xoxb-1", "C1", notifier.SlackRef{}, testMessage())
		switch {
		case status == 202 && (err != nil || outcome.Slack.TS != "1.000001"),
			status == 204 && !strings.Contains(failureOf(t, err).Error(), "could not be read"),
			status == 201 && failureOf(t, err).Kind != notifier.Rejected:
			t.Errorf("%d: got %+v, %v", status, outcome, err)
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
