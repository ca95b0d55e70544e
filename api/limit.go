package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/labstack/echo/v4"

	"oprelay/api/ratelimit"
	"oprelay/storage"
)

const (
	headerRateLimit       = "RateLimit"
	headerRateLimitPolicy = "RateLimit-Policy"
)

// Limits are what callers are held to.
type Limits struct {
	// Counter counts; it may be nil if both rates are zero.
	Counter *ratelimit.Counter
	// Key is how many requests may be made with one API key; zero for no limit.
	Key ratelimit.Rate
	// WrongKeys is how many wrong keys one client address may present before it
	// is told to wait; zero for no limit. Valid keys are served all the same.
	WrongKeys ratelimit.Rate
	// TrustedProxies are the peers whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
}

// limitedError says that a caller has to wait.
type limitedError struct {
	kind  problemKind
	who   string
	retry time.Duration
}

func (e *limitedError) Error() string { return fmt.Sprintf("%s: %s", e.kind.slug, e.who) }

// seconds is the time to wait in whole seconds, at least one.
func (e *limitedError) seconds() int { return max(1, int(math.Ceil(e.retry.Seconds()))) }

// gate holds callers to their limits. A limiter is nil where there is no limit.
type gate struct {
	keys, wrongKeys *ratelimit.Limiter
}

func newGate(l Limits) (*gate, error) {
	g := &gate{}
	if l.Counter == nil && (l.Key.N > 0 || l.WrongKeys.N > 0) {
		return nil, errors.New("api: limits without a Counter")
	}
	if l.Key.N > 0 {
		g.keys = l.Counter.Limiter("key", l.Key)
	}
	if l.WrongKeys.N > 0 {
		g.wrongKeys = l.Counter.Limiter("wrong-keys", l.WrongKeys)
	}
	return g, nil
}

// authenticate is lookUp, with every wrong key counted against the client's
// address. The look-up comes first: whoever shares an address with an abuser
// must not be locked out with it.
func (g *gate) authenticate(
	c echo.Context, presented string, lookUp func(context.Context, string) (storage.Key, error),
) (storage.Key, error) {
	ctx := c.Request().Context()
	key, err := lookUp(ctx, presented)
	if !errors.Is(err, storage.ErrNotFound) {
		return key, err
	}
	if g.wrongKeys != nil {
		client := network(c.RealIP())
		if left := g.wrongKeys.Take(ctx, client); !left.Allowed {
			return storage.Key{}, &limitedError{kind: problemWrongKeys, who: client, retry: left.Retry}
		}
	}
	return storage.Key{}, &unauthorizedError{presented: true}
}

// charge counts a request against its key and tells what is left
// (draft-ietf-httpapi-ratelimit-headers-10).
func (g *gate) charge(c echo.Context, key storage.Key) error {
	if g.keys == nil {
		return nil
	}
	left, rate := g.keys.Take(c.Request().Context(), key.ID), g.keys.Rate()
	header := c.Response().Header() // set as they are spelt, which Header.Set would change
	header[headerRateLimitPolicy] = []string{fmt.Sprintf(`"default";q=%d;w=%d`, rate.N, int(rate.Per.Seconds()))}
	header[headerRateLimit] = []string{fmt.Sprintf(`"default";r=%d;t=%d`, left.Remaining, int(math.Ceil(left.Reset.Seconds())))}
	if !left.Allowed {
		return &limitedError{kind: problemRateLimited, who: key.ID, retry: left.Retry}
	}
	return nil
}
