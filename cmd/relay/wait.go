package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"oprelay/api/client"
)

// How a watch ended, as exit codes of relay wait; 0 if it completed, 1 if it failed, 2 for an error of wait's own.
const (
	exitExpired      = 3
	exitUnobservable = 4
	exitCanceled     = 5
	exitTimeout      = 6 // it has not ended yet
)

const exitCodes = `Exit code: 0 completed, 1 failed, 3 expired, 4 unobservable, 5 canceled; 2 for any
error of its own.`

const (
	// A request waits for the watch's end, and changes are noticed in between: after a tenth of the watch's age,
	// as the relay itself polls, within these bounds.
	minWait = 300 * time.Millisecond
	maxWait = 15 * time.Second
)

var errTimeout = errors.New("the time is up")

// wait follows a watch to its end.
type wait struct {
	*connection

	view   *progress
	stdout io.Writer
	asJSON bool
	id     string

	began     time.Time // when the watch was registered, by this machine's clock
	pollError string    // as last said
}

func newWait(env environment) *cobra.Command {
	var timeout time.Duration
	w := &wait{}
	c := &cobra.Command{
		Use: "wait WATCH_ID", Args: oneArgument("the id of a watch, which relay watch prints"),
		Short: "Wait until a watch has ended, and exit with how",
		Long: `Waits until a watch has ended. It tells how the operation goes on, and at last the
result, on stderr. A relay that is away meanwhile is waited for.

` + exitCodes + ` 6 if --timeout passes first.`,
		Example: "  relay wait watch_01jd8p5kzve6wbdq8rfg0m3c7x --timeout 10m\n" +
			"  relay wait watch_01jd8p5kzve6wbdq8rfg0m3c7x --json | jq .operation.error",
		RunE: func(c *cobra.Command, args []string) (err error) {
			if timeout < 0 {
				return errors.New("--timeout: want a time above zero, such as 10m")
			}
			w.id, w.stdout, w.view = args[0], c.OutOrStdout(), newProgress(c.ErrOrStderr(), env)
			if w.connection, err = connect(c, env, w.view.say); err != nil {
				return err
			}
			ctx := c.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, timeout, errTimeout)
				defer cancel()
			}
			return w.follow(ctx)
		},
	}
	addSettings(c, clientSettings)
	c.Flags().DurationVar(&timeout, "timeout", 0, "wait no longer than this; 0 waits for the end")
	c.Flags().BoolVar(&w.asJSON, "json", false, "print the watch as JSON on stdout when it has ended")
	return c
}

// oneArgument has a command take exactly one argument, and say which if it is missing.
func oneArgument(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("want one argument, %s (see %s --help)", what, c.CommandPath())
		}
		return nil
	}
}

// follow returns how the watch ended as an exitCodeError, nil if it completed. Any other error is wait's own.
func (w *wait) follow(ctx context.Context) error {
	ended, body, err := w.untilEnd(ctx)
	w.view.stop()
	switch {
	case errors.Is(err, errTimeout):
		w.say("To wait longer: relay wait " + w.id + w.flags)
		w.say(w.view.color(yellow, "not ended yet") + ", and the time is up  " + w.watchURL(w.id))
		return exitCodeError(exitTimeout)
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("interrupted; the watch goes on. To wait for it: relay wait %s%s", w.id, w.flags)
	case err != nil:
		return w.explainMissing(err)
	}
	if w.asJSON {
		if err := printJSON(w.stdout, body); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
	}
	return w.result(ended)
}

func (w *wait) explainMissing(err error) error {
	if refused := (*refusedError)(nil); errors.As(err, &refused) && refused.status == http.StatusNotFound && refused.problem.Title != "" {
		return fmt.Errorf("there is no watch %q that this API key can see\n"+
			"relay watch prints the id of the watch that it makes; all are at %s/watches", w.id, w.url)
	}
	return err
}

// untilEnd asks for the watch until it has ended.
func (w *wait) untilEnd(ctx context.Context) (ended client.Watch, body []byte, err error) {
	var params client.GetWatchParams // the first request does not wait
	for {
		asked, again := time.Now(), false
		var seen client.Watch
		body, err = w.ask(ctx, func(ctx context.Context) (*http.Response, error) {
			if again { // a relay that has no room for one more that waits answers one that does not
				params.Wait = nil
			}
			again = true
			return w.api.GetWatch(ctx, w.id, &params)
		}, &seen)
		if err != nil || seen.Status != client.WatchStatusWatching {
			return seen, body, err
		}
		if w.began.IsZero() {
			w.begin(seen)
		}
		w.show(seen)
		params.Wait = new(min(maxWait, max(minWait, time.Since(w.began)/10)).String())
		if err := pause(ctx, minWait-time.Since(asked)); err != nil {
			return seen, nil, err
		}
	}
}

// begin learns when the watch was registered, by this machine's clock. The relay's may be wrong, or this one's.
func (w *wait) begin(seen client.Watch) {
	w.began = time.Now()
	if age := time.Since(seen.CreatedAt); age > 0 && time.Now().Before(seen.ExpiresAt) {
		w.began = seen.CreatedAt
	}
	w.say("Waiting for " + title(seen))
}

// title names the operation of a watch.
func title(w client.Watch) string {
	operation := fmt.Sprintf("%s of %s", w.Operation.ID, w.Operation.Source)
	if w.Name != nil {
		operation = fmt.Sprintf("%s (%s)", *w.Name, operation)
	}
	return plain(operation)
}

func (w *wait) show(seen client.Watch) {
	if said := valueOr(seen.LastPollError, ""); said != w.pollError {
		w.pollError = said
		if said != "" {
			w.say("The last poll told nothing: " + plain(said))
		}
	}
	state := "registered"
	if seen.Operation.Status != nil {
		state = string(*seen.Operation.Status)
	}
	w.view.show(state, func() string {
		detail := time.Since(w.began).Round(time.Second).String()
		if seen.Polls > 0 {
			detail += fmt.Sprintf(", polled %dx", seen.Polls)
		}
		return detail + held(seen)
	})
}

// held says what a poll waits for beyond its own interval.
func held(w client.Watch) string {
	switch valueOr(w.HeldBy, "") {
	case client.HeldByBudget:
		return ", waiting for the credential's budget"
	case client.HeldByRateLimit:
		return ", waiting for the upstream's rate limit"
	case client.HeldByRefusal:
		return ", the upstream refuses the credential"
	default:
		return ""
	}
}

// result tells how the watch ended. Its last line has the result, the duration, the error and the link.
func (w *wait) result(ended client.Watch) error {
	outcomes := map[client.WatchStatus]struct {
		code  int
		color string
		why   string
	}{
		client.WatchStatusCompleted: {exitOK, green, ""},
		client.WatchStatusFailed:    {exitError, red, valueOr(ended.Operation.Error, "")},
		client.WatchStatusExpired:   {exitExpired, yellow, "the operation has not ended in time"},
		client.WatchStatusUnobservable: {
			exitUnobservable, yellow,
			valueOr(ended.LastPollError, "the upstream refuses the credential or does not know the operation"),
		},
		client.WatchStatusCanceled: {exitCanceled, yellow, ""},
	}
	outcome, known := outcomes[ended.Status]
	if !known {
		return fmt.Errorf("the watch's status is %q, which this version of relay does not know", ended.Status)
	}
	if outcome.code == exitExpired || outcome.code == exitUnobservable {
		w.say("To watch it again: " + watchCommand(ended) + w.flags)
	}
	line := w.view.color(outcome.color, string(ended.Status))
	if ended.FinishedAt != nil {
		line += " after " + roughly(ended.FinishedAt.Sub(ended.CreatedAt))
	}
	if outcome.why != "" {
		line += ": " + plain(outcome.why)
	}
	w.say(line + "  " + w.watchURL(ended.ID))
	if outcome.code == exitOK {
		return nil
	}
	return exitCodeError(outcome.code)
}

// valueOr is the value, or what stands in for an absent one.
func valueOr[T any](value *T, absent T) T {
	if value == nil {
		return absent
	}
	return *value
}
