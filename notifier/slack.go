package notifier

import (
	"bytes"
	"context"
	"encoding/json"
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

// SendSlackWebhook posts the message's facts once to an incoming webhook. Any 2xx is success, unless a JSON object
// in the answer says ok or success is false. Errors are *[Error]: where Slack says so in its own words, Gone with 404
// or 410 and Rejected with 403; RateLimited where it asks for a pause, else Passing. The URL may be on any public
// host: GovSlack, Mattermost and others have their own.
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
		err = disowned(rec)
	} else {
		err = c.slackWebhookFailure(ctx, rec, err)
	}
	return rec.outcome(), err
}

// disowned is the failure that an answer with 2xx tells of, nil for none: what takes Slack's messages in Slack's
// place often says what went wrong in the body alone.
func disowned(rec *recorder) error {
	answer := readRefusal(rec.body)
	if answer.OK != false && answer.Success != false {
		return nil
	}
	why := answer.code()
	if why == errNoCode {
		why = "its body tells more"
	}
	return passing("the answer is %s, but says that the message was not accepted: %s", statusText(rec.status), string(why))
}

// SendSlackBot shows the message's facts in a channel: as a new message if previous is zero, else by changing
// that message. Where Slack no longer lets it be changed, a new one is posted, within the same call. The
// outcome names the message that now stands in the channel. Errors are *[Error]: Rejected for Slack's permanent
// errors, RateLimited where it asks for a pause, else Passing.
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

// slackAPIFailure judges a failed call of the Web API by the answer's error code. With a status of 429, or one that
// blames no request, the code is only told.
func (c *Client) slackAPIFailure(ctx context.Context, rec *recorder, err error) error {
	if !rec.answered {
		return c.transportError(ctx, err)
	}
	if !isSuccess(rec.status) {
		failure := c.slackStatusFailure(rec)
		answer := readRefusal(rec.body)
		code := answer.code()
		switch {
		case answer.OK != false || code == errNoCode: // not Slack's words
		case rec.status >= 400 && rec.status <= 499 && rec.status != http.StatusTooManyRequests:
			return &Error{Kind: kindOf(code), Err: fmt.Errorf("%w (%s)", code, statusText(rec.status))}
		default:
			failure.Err = fmt.Errorf("%w: %s", failure.Err, string(code))
		}
		return failure
	}
	refused, is := errors.AsType[slack.SlackErrorResponse](err)
	if !is {
		return passing("Slack's answer could not be read")
	}
	code := cleanCode(refused.Err)
	return &Error{Kind: kindOf(code), Err: code}
}

// slackWebhookFailure judges a failed post to an incoming webhook. Slack answers with a status and a code that is the
// whole text. A proxy's 404 or a firewall's 403 looks otherwise, and says nothing about the webhook.
func (c *Client) slackWebhookFailure(ctx context.Context, rec *recorder, err error) error {
	code := cleanCode(string(firstBytes(rec.body)))
	switch {
	case !rec.answered:
		return c.transportError(ctx, err)
	case !endsWebhook(code):
	case rec.status == http.StatusNotFound || rec.status == http.StatusGone:
		return &Error{Kind: Gone, Err: fmt.Errorf("%w (%s)", code, statusText(rec.status))}
	case rec.status == http.StatusForbidden:
		return &Error{Kind: Rejected, Err: code}
	}
	failure := c.slackStatusFailure(rec)
	switch {
	case !isPassing(code) &&
		(rec.status == http.StatusForbidden || rec.status == http.StatusNotFound || rec.status == http.StatusGone):
		failure.Err = fmt.Errorf("the answer is %s, and not in Slack's words: check the URL and what stands before it",
			statusText(rec.status))
	case code != errNoCode:
		failure.Err = fmt.Errorf("%w: %s", failure.Err, string(code))
	}
	return failure
}

func (c *Client) slackStatusFailure(rec *recorder) *Error {
	return statusFailure("Slack", rec.status, rec.header, c.now())
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
	acceptGzip(req)
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
	if isSuccess(r.status) {
		resp.StatusCode = http.StatusOK // slack-go takes no other for one
	}
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

// errNoCode stands for what is no code of Slack's.
const errNoCode codeError = "an unknown error"

// cleanCode keeps an answer only if it looks like one of Slack's codes: other text may quote the request.
func cleanCode(text string) codeError {
	const longest = 64
	text = strings.TrimSpace(text)
	odd := strings.ContainsFunc(text, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	if text == "" || len(text) > longest || odd {
		return errNoCode
	}
	return codeError(text)
}

// refusal is an answer of JSON that may say that a message was not accepted.
type refusal struct {
	OK      any `json:"ok"`
	Success any `json:"success"`
	Error   any `json:"error"`
}

func readRefusal(body []byte) (answer refusal) {
	_ = json.Unmarshal(body, &answer) // what is no such object says nothing
	return answer
}

func (r refusal) code() codeError {
	text, _ := r.Error.(string)
	return cleanCode(text)
}

// kindOf judges an error of the Web API by its code alone.
func kindOf(code codeError) Kind {
	switch {
	case isPermanent(code):
		return Rejected
	case isLimit(code):
		return RateLimited
	}
	return Passing
}

func isLimit(code codeError) bool {
	return code == "ratelimited" || code == "rate_limited" || code == "message_limit_exceeded"
}

// isPermanent lists the errors of chat.postMessage and chat.update that only a person can mend (docs.slack.dev:
// "chat.postMessage", errors).
func isPermanent(code codeError) bool {
	switch string(code) {
	case "access_denied", "account_inactive", "as_user_not_supported", "channel_not_found", "ekm_access_denied",
		"enterprise_is_restricted", "invalid_auth", "is_archived", "messages_tab_disabled", "missing_scope",
		"no_permission", "not_allowed_token_type", "not_authed", "not_in_channel", "team_access_not_granted",
		"team_not_found", "token_expired", "token_revoked", "two_factor_setup_required", "user_not_found":
		return true
	}
	return strings.HasPrefix(string(code), "restricted_action")
}

// endsWebhook reports whether only a person can mend it: the errors of incoming webhooks (docs.slack.dev: "Sending
// messages using incoming webhooks", errors), and what is permanent for a bot.
func endsWebhook(code codeError) bool {
	switch string(code) {
	case "action_prohibited", "channel_is_archived", "invalid_token", "no_active_hooks", "no_service", "no_service_id",
		"no_team", "posting_to_general_channel_denied", "team_disabled":
		return true
	}
	return isPermanent(code)
}

// isPassing lists what else Slack says to an incoming webhook: it is about one message, or about Slack.
func isPassing(code codeError) bool {
	switch string(code) {
	case "fatal_error", "internal_error", "invalid_attachments", "invalid_blocks", "invalid_blocks_format",
		"invalid_payload", "msg_blocks_too_long", "msg_too_long", "no_text", "request_timeout", "rollup_error",
		"service_unavailable", "team_added_to_org", "too_many_attachments":
		return true
	}
	return isLimit(code)
}
