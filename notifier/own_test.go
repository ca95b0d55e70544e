package notifier_test

import (
	"context"
	"net"
	"strings"
	"syscall"
	"testing"

	"oprelay/notifier"
)

// Whatever is sent, and whichever way, the relay's own trouble is told from the other side's.
func TestOwnTroubleIsTold(t *testing.T) {
	t.Parallel()
	exhausted := &net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "udp", Err: syscall.EMFILE}
		},
	}
	told := 0
	client := newClient(t, func(cfg *notifier.Config) {
		cfg.Resolver, cfg.SlackURL, cfg.OutOfFiles = exhausted, "http://slack.example/api/", func() { told++ }
	})
	_, webhook := client.SendWebhook(t.Context(), notifier.Webhook{URL: "http://receiver.example/", Secrets: []string{testSecret}}, testMessage())
	_, incoming := client.SendSlackWebhook(t.Context(), "http://receiver.example/", testMessage())
	_, bot := client.SendSlackBot(t.Context(), "xoxb-1", "C1", notifier.SlackRef{}, testMessage())
	for name, err := range map[string]error{"webhook": webhook, "incoming webhook": incoming, "bot": bot} {
		if failure := failureOf(t, err); failure.Kind != notifier.Own || !strings.Contains(err.Error(), "too many open files") {
			t.Errorf("%s: got %v: %v", name, failure.Kind, err)
		}
	}
	if told != 3 {
		t.Errorf("told %d times that no file could be opened, want 3", told)
	}
}
