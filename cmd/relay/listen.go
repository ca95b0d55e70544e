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
	"oprelay/notifier"
)

// shortStream is how long a stream lasts at least that ended for a good reason.
const shortStream = 5 * time.Second

// listenFlags are what the command line says of listening.
type listenFlags struct {
	since, kind string
	asJSON      bool
	target      string // --forward-to
	address     string // --receive
	secret      string
}

func newListen(env environment) *cobra.Command {
	var given listenFlags
	c := &cobra.Command{
		Use: "listen", Args: cobra.NoArgs,
		Short: "Print events as they come; forward or receive webhooks",
		Long: `Prints the events of the API key's tenant as they come, on stdout, until it is
interrupted. After a lost connection it goes on where it ended: no event is missed
or printed twice. It says so if the relay's retention has deleted some meanwhile.

With --forward-to it also posts each event as a webhook, signed, to a receiver that
you develop, once, and prints what that answered.

With --receive it is a receiver of its own, without a relay's API: it verifies what
is posted to it, prints it, and answers 2xx only for what verifies. A relay sends to
this machine only if its RELAY_EGRESS_ALLOW has 127.0.0.0/8.`,
		Example: "  relay listen --type operation.failed\n" +
			"  relay listen --json | jq .body.data.operation\n" +
			"  relay listen --forward-to http://127.0.0.1:3000/webhooks\n" +
			"  relay listen --receive 127.0.0.1:4000 --secret whsec_...",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := given.run(c, env); c.Context().Err() == nil { // to interrupt it is the way to end it
				return err
			}
			return nil
		},
	}
	c.Flags().StringVar(&given.since, "since", "", "begin after the event with this `EVENT_ID`, not with what comes next")
	c.Flags().StringVar(&given.kind, "type", "", "only events of this type, such as operation.failed")
	c.Flags().BoolVar(&given.asJSON, "json", false, "print each event as a line of JSON")
	c.Flags().StringVar(&given.target, "forward-to", "", "`URL` to post each event to")
	c.Flags().StringVar(&given.address, "receive", "", "be a receiver at this `ADDRESS` (host:port) instead")
	c.Flags().StringVar(&given.secret, "secret", "", "signing secret (whsec_...) of --receive or --forward-to, which makes one without it")
	for _, ofAPI := range []string{"since", "type", "forward-to"} {
		c.MarkFlagsMutuallyExclusive("receive", ofAPI)
	}
	addSettings(c, clientSettings)
	return c
}

func (g *listenFlags) run(c *cobra.Command, env environment) error {
	told := newProgress(c.ErrOrStderr(), env)
	printed := newEventPrinter(c.OutOrStdout(), env, g.asJSON)
	if g.secret != "" {
		if err := notifier.CheckSecret(g.secret); err != nil {
			return fmt.Errorf("--secret %w", err)
		}
	}
	if c.Flags().Changed("receive") {
		return receive(c.Context(), g.address, g.secret, printed, told)
	}
	l := &listener{printed: printed, kind: g.kind, after: g.since, stderr: c.ErrOrStderr()}
	switch {
	case g.target != "":
		var err error
		if l.forward, err = newForwarder(g.target, g.secret, told); err != nil {
			return err
		}
	case g.secret != "":
		return errors.New("--secret goes with --receive or --forward-to")
	}
	var err error
	if l.connection, err = connect(c, env, told.say); err != nil {
		return err
	}
	return l.listen(c.Context())
}

// listener prints what comes on the stream of events.
type listener struct {
	*connection

	printed *eventPrinter
	forward *forwarder // nil for none
	stderr  io.Writer
	kind    string // "" for all
	after   string // the last event that was printed, "" for none yet
}

// listen ends with ctx, or with an error that does not pass.
func (l *listener) listen(ctx context.Context) error {
	ready := false
	for short := 0; ; short++ {
		stream, err := l.open(ctx)
		if ready && l.goesOn(err) {
			continue
		}
		if err != nil {
			return err
		}
		if !ready {
			ready = true
			l.say("ready: events of " + l.url + " are printed as they come")
		}
		opened := time.Now()
		lost, err := l.read(ctx, stream)
		stream.Close()
		if err != nil || ctx.Err() != nil {
			return err
		}
		if last := stream.LastEventID(); last != "" {
			l.after = last
		}
		if !errors.Is(lost, io.EOF) { // a relay that stops ends its streams
			l.lost("The connection was lost: " + plain(lost.Error()) + ". Connecting again.")
		}
		if time.Since(opened) > shortStream {
			short = 0
		}
		delay, _ := passing(lost, short)
		if err := pause(ctx, delay); err != nil {
			return err
		}
	}
}

// goesOn says that its place in the feed was deleted, and goes on with what is kept.
func (l *listener) goesOn(err error) bool {
	refused := (*refusedError)(nil)
	if !errors.As(err, &refused) || refused.status != http.StatusGone || refused.problem.BeginsAfter == nil {
		return false
	}
	l.say("Events may be missing here. " + plain(refused.problem.Detail))
	l.after = *refused.problem.BeginsAfter
	return true
}

// open connects, for as long as it takes.
func (l *listener) open(ctx context.Context) (stream *client.Stream, err error) {
	params := client.StreamEventsParams{}
	if l.kind != "" {
		params.Type = new(client.EventType(l.kind))
	}
	if l.after != "" {
		params.After = &l.after
	}
	return stream, l.retry(ctx, func() (err error) {
		stream, err = client.OpenStream(ctx, l.api, &params)
		if refused := (*client.RefusedError)(nil); errors.As(err, &refused) {
			l.met = l.met || refused.Problem.Title != ""
			return &refusedError{status: refused.Status, problem: refused.Problem, retryAfter: refused.RetryAfter}
		}
		if err != nil {
			return awayError{reasonOf(ctx, err)}
		}
		l.met = true
		return nil
	})
}

// read prints events until the stream is lost, and returns why. An err ends the program.
func (l *listener) read(ctx context.Context, stream *client.Stream) (lost, err error) {
	for {
		message, err := stream.Next()
		if errors.Is(err, client.ErrMessageTooLong) { // it would come again
			return nil, fmt.Errorf("%s: %w", l.url, err)
		}
		if err != nil {
			return err, nil
		}
		event, err := eventOf(message.Data)
		if err != nil {
			return nil, fmt.Errorf("the stream of %s is not a relay's: %w", l.url, err)
		}
		if err := l.printed.print(event, message.Data); err != nil {
			return nil, err
		}
		if l.forward == nil {
			continue
		}
		outcome := l.forward.post(ctx, event)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := l.printed.note(outcome, l.stderr); err != nil {
			return nil, err
		}
	}
}
