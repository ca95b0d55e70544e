package slacktest_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"oprelay/notifier/slacktest"
)

// call posts to the server and returns its answer's status and body.
func call(ctx context.Context, s *slacktest.Server, path, contentType, body string) (int, string) {
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, req)
	return answer.Code, answer.Body.String()
}

const formType = "application/x-www-form-urlencoded"

func TestCallsAreHeldToTheLimits(t *testing.T) {
	t.Parallel()
	section := func(n int) string {
		return `{"type":"section","text":{"type":"mrkdwn","text":"` + strings.Repeat("a", n) + `"}}`
	}
	repeat := func(one string, n int) string { return "[" + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + "]" }
	field := `{"type":"mrkdwn","text":"a"}`
	tests := []struct {
		name, text, blocks, want string
	}{
		{"text", "hi", "", ""},
		{"blocks", "", repeat(section(200), 50), ""},
		{"longest section", "", repeat(section(3000), 1), ""},
		{"too much in all", "", repeat(section(201), 50), "msg_blocks_too_long"},
		{"blank text", " \n", "", "no_text"},
		{"blank section", "", `[{"type":"section","text":{"type":"mrkdwn","text":" "}}]`, "invalid_blocks"},
		{"nothing", "", "", "no_text"},
		{"not JSON", "", "{", "invalid_blocks_format"},
		{"long text", strings.Repeat("a", 40001), "", "msg_too_long"},
		{"51 blocks", "", repeat(section(1), 51), "invalid_blocks"},
		{"long section", "", repeat(section(3001), 1), "invalid_blocks"},
		{"empty section", "", `[{"type":"section"}]`, "invalid_blocks"},
		{"empty text", "", repeat(section(0), 1), "invalid_blocks"},
		{"10 fields", "", `[{"type":"section","fields":` + repeat(field, 10) + `}]`, ""},
		{"11 fields", "", `[{"type":"section","fields":` + repeat(field, 11) + `}]`, "invalid_blocks"},
		{"long field", "", `[{"type":"section","fields":[{"type":"mrkdwn","text":"` + strings.Repeat("a", 2001) + `"}]}]`, "invalid_blocks"},
		{"header", "", `[{"type":"header","text":{"type":"plain_text","text":"a"}},{"type":"divider"}]`, ""},
		{"formatted header", "", `[{"type":"header","text":{"type":"mrkdwn","text":"a"}}]`, "invalid_blocks"},
		{"long header", "", `[{"type":"header","text":{"type":"plain_text","text":"` + strings.Repeat("a", 151) + `"}}]`, "invalid_blocks"},
		{"10 elements", "", `[{"type":"context","elements":` + repeat(field, 10) + `}]`, ""},
		{"11 elements", "", `[{"type":"context","elements":` + repeat(field, 11) + `}]`, "invalid_blocks"},
		{"unknown block", "", `[{"type":"marquee"}]`, "invalid_blocks"},
		{"unknown text", "", `[{"type":"section","text":{"type":"html","text":"a"}}]`, "invalid_blocks"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := slacktest.New(slacktest.Options{})
			form := url.Values{"token": {"x"}, "channel": {"C1"}, "text": {tt.text}, "blocks": {tt.blocks}}
			status, body := call(t.Context(), s, slacktest.APIPath+"chat.postMessage", formType, form.Encode())
			var answer struct {
				OK    bool   `json:"ok"`
				Error string `json:"error"`
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				t.Fatal(err)
			}
			if status != http.StatusOK || answer.Error != tt.want || answer.OK != (tt.want == "") {
				t.Errorf("got %d, %+v, want error %q", status, answer, tt.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := slacktest.New(slacktest.Options{Token: "x", Channels: []string{"C1"}})
	for _, tt := range []struct{ method, contentType, body, want string }{
		{"chat.postMessage", formType, "channel=C1&text=a", "not_authed"},
		{"chat.postMessage", formType, "token=y&channel=C1&text=a", "invalid_auth"},
		{"chat.postMessage", formType, "token=x&channel=C2&text=a", "channel_not_found"},
		{"chat.postMessage", "text/plain", "token=x&channel=C1&text=a", "invalid_post_type"},
		{"chat.postMessage", "application/json", `{"token":"x","channel":"C1","text":"a"}`, "not_authed"},
		{"chat.postMessage", "application/json", `{`, "invalid_json"},
		{"chat.update", formType, "token=x&channel=C1&text=a&ts=1.0", "message_not_found"},
	} {
		if _, body := call(t.Context(), s, slacktest.APIPath+tt.method, tt.contentType, tt.body); !strings.Contains(body, `"`+tt.want+`"`) {
			t.Errorf("%s %s: got %s, want %s", tt.method, tt.body, body, tt.want)
		}
	}
	if status, body := call(t.Context(), s, slacktest.WebhookPath, formType, "text=a"); status != http.StatusBadRequest || body != "invalid_payload" {
		t.Errorf("incoming webhook: got %d %s", status, body)
	}
	if len(s.Messages()) != 0 || s.Requests() != 8 {
		t.Errorf("got %d messages of %d requests", len(s.Messages()), s.Requests())
	}
}

func TestWaitAndForget(t *testing.T) {
	t.Parallel()
	s := slacktest.New(slacktest.Options{})
	go call(t.Context(), s, slacktest.WebhookPath, "application/json", `{"text":"a"}`)
	messages, err := s.Wait(t.Context(), func(m []slacktest.Message) bool { return len(m) == 1 })
	if err != nil {
		t.Fatal(err)
	}
	if !s.Forget(messages[0].Channel, messages[0].TS) || s.Forget(messages[0].Channel, messages[0].TS) {
		t.Error("a message can be forgotten once")
	}
}
