package notifier_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"oprelay/notifier"
)

// A receiver that echoes what it was sent with does not get it into what is kept
// of its answer.
func TestAnswersHoldNoSecret(t *testing.T) {
	t.Parallel()
	const token = `s3cr3t"&<token>/+marker`
	const value = "Bearer " + token
	quoted, _ := json.Marshal(value)
	for name, c := range map[string]struct{ answer, want string }{
		"the header":          {"you sent " + value + ".", "you sent [masked]."},
		"the token":           {"bad token: " + token, "bad token: [masked]"},
		"as JSON":             {`{"authorization":` + string(quoted) + `}`, `{"authorization":"[masked]"}`},
		"as JSON, less so":    {`{"authorization":"Bearer s3cr3t\"&<token>/+marker"}`, `{"authorization":"[masked]"}`},
		"in a query":          {"?t=" + url.QueryEscape(token) + "&x", "?t=[masked]&x"},
		"in a path":           {"/" + url.PathEscape(token) + "/x", "/[masked]/x"},
		"more than once":      {token + token, "[masked][masked]"},
		"at the 4 KiB":        {strings.Repeat(".", 4096-9) + value, strings.Repeat(".", 4096-9) + "[masked]"},
		"the URL":             {"at /?a=1&key=a+secret%2Fquery: no", "at /?[masked]: no"},
		"the URL's key":       {"no key a secret/query", "no key [masked]"},
		"short values":        {"edge", "edge"},
		"the scheme alone":    {"want Bearer", "want Bearer"},
		"nothing of the kind": {"no", "no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprint(w, c.answer)
			}))
			t.Cleanup(receiver.Close)
			got, err := newClient(t, nil).SendWebhook(t.Context(), notifier.Webhook{
				URL: receiver.URL + "/?a=1&key=a+secret%2Fquery", Headers: map[string]string{"Authorization": value, "X-Team": "edge"},
				Secrets: []string{notifier.NewSecret()},
			}, testMessage())
			_ = failureOf(t, err)
			if string(got.Body) != c.want {
				t.Errorf("%s, want %s", got.Body, c.want)
			}
		})
	}
}

// Nor does Slack, or what stands in its place.
func TestSlackAnswersHoldNoSecret(t *testing.T) {
	t.Parallel()
	const token = "xoxb-marker-marker"
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "%s http://%s%s", r.Header.Get("Authorization"), r.Host, r.URL)
	}))
	t.Cleanup(echo.Close)
	client := newClient(t, func(cfg *notifier.Config) { cfg.SlackURL = echo.URL + "/api" })
	bot, _ := client.SendSlackBot(t.Context(), token, "C1", notifier.SlackRef{}, testMessage())
	if body := string(bot.Body); !strings.HasPrefix(body, "[masked] http") && !strings.HasPrefix(body, "Bearer [masked] http") {
		t.Errorf("a bot's answer: %s", body)
	}
	hook, _ := client.SendSlackWebhook(t.Context(), echo.URL+"/services/T0/B0/marker", testMessage())
	if strings.Contains(string(hook.Body), "marker") || len(hook.Body) == 0 {
		t.Errorf("an incoming webhook's answer: %s", hook.Body)
	}
}
