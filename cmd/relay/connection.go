package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oprelay/api/client"
)

const (
	// firstContact is how long a relay that has never answered is waited for: a restart, but not
	// for ever, as RELAY_URL may be wrong.
	firstContact = 20 * time.Second
	// requestTimeout is how long one request may take, the answer's body included.
	requestTimeout = 30 * time.Second
	// maxAnswer bounds an answer's body.
	maxAnswer = 16 << 20
	// patience is how often a relay may ask for fewer requests before it is said.
	patience = 5
	// maxPause is the longest time between two tries where the relay does not name one.
	maxPause = 3 * time.Second
)

var errNoAnswer = fmt.Errorf("no answer within %s", requestTimeout)

// connection is a relay's API as a client command uses it.
type connection struct {
	api *client.Client
	url string // RELAY_URL
	// flags are what a command has to be called with to reach the same relay.
	flags string
	// say tells the person in front of the command something, in one line.
	say func(text string)
	// met says that the relay has answered before: if it is away, it will come back.
	met bool
	// away says that the person knows that the relay does not answer.
	away bool
}

// connect reads the settings. It sends nothing.
func connect(c *cobra.Command, env environment, say func(string)) (*connection, error) {
	cfg, err := load(c, env, clientSettings)
	if err != nil {
		return nil, err
	}
	conn := &connection{url: strings.TrimRight(cfg.url, "/"), say: say}
	if c.Flags().Changed("url") {
		conn.flags = " --url " + conn.url
	}
	// A redirect would send a POST on as a GET, and the key wherever it leads.
	plain := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	conn.api, err = client.NewClient(conn.url, client.WithHTTPClient(plain), client.WithAPIKey(cfg.apiKey),
		client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.Header.Set("User-Agent", userAgent())
			return nil
		}))
	return conn, err
}

func userAgent() string { return "relay/" + version }

// watchURL is the watch's page in the console.
func (c *connection) watchURL(id string) string { return c.url + "/watches/" + url.PathEscape(id) }

// request is a call of the generated client.
type request func(context.Context) (*http.Response, error)

// ask sends a request until it is answered, and decodes the answer.
func (c *connection) ask(ctx context.Context, send request, into any) (body []byte, err error) {
	err = c.retry(ctx, func() (err error) {
		body, err = c.once(ctx, send)
		return err
	})
	if err != nil {
		return nil, err
	}
	return body, json.Unmarshal(body, into)
}

// retry calls try until it succeeds. What passes by itself is waited for: a relay that is away, which is said
// once, and one that allows no more requests for now.
func (c *connection) retry(ctx context.Context, try func() error) error {
	began := time.Now()
	for n := 0; ; n++ {
		err := try()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			if c.away {
				c.away = false
				c.say("The relay answers again.")
			}
			return nil
		}
		delay, passes := passing(err, n)
		passes = passes || c.met && foreign(err) // a proxy answers while the relay is being replaced
		if !passes || !c.met && time.Since(began)+delay > firstContact {
			return c.explain(err)
		}
		if n >= patience || !limited(err) {
			c.lost(c.complaint(err) + ". Waiting for it." + c.doubt())
		}
		if err := pause(ctx, delay); err != nil {
			return err
		}
	}
}

// doubt is a question where the relay has never answered.
func (c *connection) doubt() string {
	if c.met {
		return ""
	}
	return " Is RELAY_URL right?"
}

// lost says that the relay is away, once until it is there again.
func (c *connection) lost(text string) {
	if !c.away {
		c.away = true
		c.say(text)
	}
}

// once sends a request and returns the body of a success.
func (c *connection) once(ctx context.Context, send request) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout, errNoAnswer)
	defer cancel()
	response, err := send(ctx)
	if err != nil {
		return nil, awayError{reasonOf(ctx, err)}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, awayError{reasonOf(ctx, err)}
	}
	refused := refusalOf(response, body)
	c.met = c.met || refused == nil || refused.problem.Title != ""
	if refused != nil {
		return nil, refused
	}
	return body, nil
}

// awayError says that no answer came.
type awayError struct{ error }

// reasonOf is why no answer came, without the request's URL.
func reasonOf(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errNoAnswer) {
		return errNoAnswer
	}
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// passing says whether what went wrong may pass by itself, and how long to wait before the next try.
func passing(err error, try int) (delay time.Duration, passes bool) {
	delay = min(maxPause, 200*time.Millisecond<<min(try, 10))
	delay = delay/2 + rand.N(delay/2) // a relay that comes back is not to meet all its clients at once
	refused := (*refusedError)(nil)
	if !errors.As(err, &refused) {
		return delay, errors.As(err, new(awayError))
	}
	return max(delay, refused.retryAfter), refused.passes()
}

// foreign says whether the answer is not a relay's.
func foreign(err error) bool {
	refused := (*refusedError)(nil)
	return errors.As(err, &refused) && refused.problem.Title == ""
}

// limited says whether the relay is well and asks for fewer requests.
func limited(err error) bool {
	refused := (*refusedError)(nil)
	return errors.As(err, &refused) && refused.status < http.StatusInternalServerError && !foreign(err)
}

// pause waits. Its error is why the context ended before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
