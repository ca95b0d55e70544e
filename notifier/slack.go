package notifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/slack-go/slack"
)

// maxSlackAnswer bounds what is read of one of Slack's answers: chat.postMessage repeats the whole message.
const maxSlackAnswer = 1 << 20

// SendSlackWebhook posts the message's facts once to an incoming webhook. Errors are *[Error]: Gone for 404 and
// 410, Rejected where Slack forbids the post for good, RateLimited for 429, else Passing.
func (c *Client) SendSlackWebhook(ctx context.Context, hookURL string, msg Message) (Outcome, error) {
	if _, err := http.NewRequestWithContext(ctx, http.MethodPost, hookURL, nil); err != nil {
		return Outcome{}, passing("the destination's Slack URL is not valid")
	}
	text := renderSlack(msg.Facts)
	noUnfurl := false
	rec := &recorder{next: c.untrusted, userAgent: c.userAgent, secrets: slackURLSecrets(hookURL)}
	err := slack.PostWebhookCustomHTTPContext(ctx, hookURL, rec.client(), &slack.WebhookMessage{
		Text:        text.fallback,
		Blocks:      &slack.Blocks{BlockSet: text.blocks},
		Parse:       "none",
		UnfurlLinks: &noUnfurl,
		UnfurlMedia: &noUnfurl,
	})
	if err == nil {
		return rec.outcome(), nil
	}
	return rec.outcome(), c.slackWebhookFailure(ctx, rec, err)
}

// SendSlackBot shows the message's facts in a channel: as a new message if previous is zero, else by changing
// that message. Where Slack no longer lets it be changed, a new one is posted, within the same call. The
// outcome names the message that now stands in the channel. Errors are *[Error]: Rejected for Slack's permanent
// errors, RateLimited for 429, else Passing.
func (c *Client) SendSlackBot(
	ctx context.Context, token, channel string, previous SlackRef, msg Message,
) (Outcome, error) {
	text := renderSlack(msg.Facts)
	content := slack.MsgOptionCompose(
		slack.MsgOptionText(text.fallback, false), // escaped by the rendering
		slack.MsgOptionBlocks(text.blocks...),
		slack.MsgOptionParse(false),
		slack.MsgOptionLinkNames(false),
		slack.MsgOptionDisableMarkdown(),
		slack.MsgOptionDisableLinkUnfurl(),
		slack.MsgOptionDisableMediaUnfurl(),
	)
	if !previous.IsZero() {
		outcome, err := c.callSlack(ctx, token, previous.Channel, slack.MsgOptionUpdate(previous.TS), content)
		if !isUnchangeable(err) {
			return outcome, err
		}
	}
	return c.callSlack(ctx, token, channel, slack.MsgOptionPost(), content)
}

func (c *Client) callSlack(
	ctx context.Context, token, channel string, options ...slack.MsgOption,
) (Outcome, error) {
	rec := &recorder{next: c.operator, userAgent: c.userAgent, token: token, secrets: []string{token}}
	api := slack.New(token, slack.OptionHTTPClient(rec.client()), slack.OptionAPIURL(c.slackURL))
	postedTo, ts, _, err := api.SendMessageContext(ctx, channel, options...)
	outcome := rec.outcome()
	if err == nil && ts == "" {
		err = errUnreadable // {"ok":false} without an error is no error to slack-go
	}
	if err != nil {
		return outcome, c.slackAPIFailure(ctx, rec, err)
	}
	if postedTo == "" {
		postedTo = channel
	}
	outcome.Slack = SlackRef{Channel: postedTo, TS: ts}
	return outcome, nil
}

var errUnreadable = errors.New("unreadable answer")

// codeError is an error code of Slack's, such as channel_not_found, inside an Error.
type codeError string

func (s codeError) Error() string { return "Slack answered " + string(s) }

// isUnchangeable reports whether chat.update failed in a way that only a new message can tell more about: the
// old one is gone or too old, or it is in a channel that the destination may since have left.
func isUnchangeable(err error) bool {
	var code codeError
	if !errors.As(err, &code) {
		return false
	}
	return slices.Contains([]codeError{
		"message_not_found", "cant_update_message", "edit_window_closed",
		"channel_not_found", "is_archived", "not_in_channel",
	}, code)
}

// slackAPIFailure judges a failed call of the Web API, by status first, then by the answer's error code.
func (c *Client) slackAPIFailure(ctx context.Context, rec *recorder, err error) error {
	var refused slack.SlackErrorResponse
	switch {
	case !rec.answered:
		return transportError(ctx, err)
	case rec.status != http.StatusOK:
		return c.slackStatusFailure(rec)
	case !errors.As(err, &refused):
		return passing("Slack's answer could not be read")
	}
	code := cleanCode(refused.Err)
	failure := &Error{Kind: Passing, Err: code}
	switch {
	case isPermanent(code):
		failure.Kind = Rejected
	case code == "ratelimited" || code == "rate_limited" || code == "message_limit_exceeded":
		failure.Kind = RateLimited
	}
	return failure
}

// slackWebhookFailure judges a failed post to an incoming webhook, whose answer is a status and a code as text.
func (c *Client) slackWebhookFailure(ctx context.Context, rec *recorder, err error) error {
	code := cleanCode(string(firstBytes(rec.body)))
	switch {
	case !rec.answered:
		return transportError(ctx, err)
	case rec.status == http.StatusNotFound || rec.status == http.StatusGone:
		return &Error{Kind: Gone, Err: fmt.Errorf("the incoming webhook is gone (%d): %w", rec.status, code)}
	case rec.status != http.StatusTooManyRequests && rec.status < 500 && isPermanent(code):
		return &Error{Kind: Rejected, Err: code}
	}
	return c.slackStatusFailure(rec)
}

func (c *Client) slackStatusFailure(rec *recorder) error {
	failure := passing("Slack answered %s", statusText(rec.status))
	failure.RetryAfter = retryAfter(rec.status, rec.header, c.now())
	if rec.status == http.StatusTooManyRequests {
		failure.Kind = RateLimited
	}
	return failure
}

// cleanCode keeps an answer only if it looks like one of Slack's codes: other text may quote the request.
func cleanCode(text string) codeError {
	const longest = 64
	text = strings.TrimSpace(text)
	odd := strings.ContainsFunc(text, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	if text == "" || len(text) > longest || odd {
		return "an unknown error"
	}
	return codeError(text)
}

// isPermanent lists the errors of chat.postMessage, chat.update and incoming webhooks that only a person can
// mend (docs.slack.dev: "chat.postMessage", errors; "Sending messages using incoming webhooks", errors).
func isPermanent(code codeError) bool {
	switch code {
	case "access_denied", "account_inactive", "action_prohibited", "as_user_not_supported",
		"channel_is_archived", "channel_not_found", "ekm_access_denied", "enterprise_is_restricted",
		"invalid_auth", "invalid_token", "is_archived", "messages_tab_disabled", "missing_scope", "no_active_hooks",
		"no_permission", "no_service", "no_service_id", "no_team", "not_allowed_token_type", "not_authed",
		"not_in_channel", "posting_to_general_channel_denied", "team_access_not_granted", "team_disabled",
		"team_not_found", "token_expired", "token_revoked", "two_factor_setup_required", "user_not_found":
		return true
	}
	return strings.HasPrefix(string(code), "restricted_action")
}

// recorder is the transport of one call through slack-go. It keeps what slack-go does not report (status,
// headers and body of a refusal) and bounds the answer. Its client follows no redirects.
type recorder struct {
	next      http.RoundTripper
	userAgent string
	token     string   // also sent as a bearer token, where Slack's documentation prefers it; slack-go sends a field
	secrets   []string // see mask

	answered bool // the rest was read in time
	status   int
	header   http.Header
	body     []byte
}

func (r *recorder) client() *http.Client {
	return &http.Client{
		Transport:     r,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// RoundTrip sends the request and reads the whole bounded answer, so that the context bounds the body too.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", r.userAgent)
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := r.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r.status, r.header = resp.StatusCode, resp.Header.Clone()
	if r.body, err = readBody(resp, maxSlackAnswer); err != nil && req.Context().Err() != nil {
		return nil, err
	}
	r.answered = true
	resp.Body = io.NopCloser(bytes.NewReader(r.body))
	return resp, nil
}

func (r *recorder) outcome() Outcome {
	return Outcome{StatusCode: r.status, Body: firstBytes(mask(firstBytes(r.body), r.secrets...))}
}

// slackURLSecrets is what is secret of an incoming webhook's URL: all of it, and
// what follows the host.
func slackURLSecrets(rawURL string) []string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return []string{rawURL}
	}
	return []string{rawURL, u.RequestURI(), strings.TrimPrefix(u.RequestURI(), "/")}
}
