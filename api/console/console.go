// Package console is the relay for people: HTML pages, made by the relay itself.
//
// It is a client of the API inside the process. A page asks the API's own handler with the key
// of its session, so that checks, scopes, limits and the words of errors are the API's, and
// nothing is decided twice. Pages work without JavaScript; with it, what moves is updated in
// place.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"time"

	"oprelay/api"
	"oprelay/api/client"
	"oprelay/storage"
)

// Config is what the console works with.
type Config struct {
	// API answers every page's questions.
	API *api.Server
	// Store keeps the sessions, and is used for nothing else.
	Store  *storage.Store
	Logger *slog.Logger
	// URL is where people open the console, if it is known; forms posted from there are the console's
	// own, also behind a proxy that changes the Host. If it is https, so is every connection: a proxy
	// need not say so.
	URL string
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
}

// Console answers requests for pages. It is an http.Handler, for [api.Server.Mount].
type Console struct {
	server    *api.Server
	api       *client.Client
	store     *storage.Store
	logger    *slog.Logger
	now       func() time.Time
	secure    string // where people open the console, if that is known and is https; "" if not
	liveCheck time.Duration
	assets    assets
	templates func() (templates, error) // read when the first page is asked for
	handler   http.Handler
}

// New makes a Console.
func New(config Config) (*Console, error) {
	if config.API == nil || config.Store == nil || config.Logger == nil {
		return nil, errors.New("console: API, Store and Logger are required")
	}
	c := &Console{server: config.API, store: config.Store, logger: config.Logger, now: config.Now, liveCheck: liveCheck}
	if c.now == nil {
		c.now = time.Now
	}
	var err error
	if c.api, err = client.NewClient("http://relay", client.WithHTTPClient(inside{config.API})); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	if c.assets, err = loadAssets(); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	c.templates = sync.OnceValues(c.loadTemplates)
	protection := http.NewCrossOriginProtection()
	if own, err := url.Parse(config.URL); err == nil && own.Host != "" {
		if own.Scheme == "https" {
			c.secure = "https://" + own.Host
		}
		if err := protection.AddTrustedOrigin(own.Scheme + "://" + own.Host); err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
	}
	protection.SetDenyHandler(http.HandlerFunc(c.denyOrigin))
	c.handler = protection.Handler(c.routes())
	return c, nil
}

// policy is the Content-Security-Policy of every answer.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// maxForm bounds what is posted to the console: each form has a few fields.
const maxForm = 64 << 10

// ServeHTTP answers one request.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	defer c.explainPanic(w, r)
	c.handler.ServeHTTP(w, r)
}

// explainPanic has a page that panics be answered like one that fails.
func (c *Console) explainPanic(w http.ResponseWriter, r *http.Request) {
	switch value := recover(); value {
	case nil:
	case http.ErrAbortHandler: // net/http's own way to hang up
		panic(value)
	default:
		status, why := c.explain(w, fmt.Errorf("panic: %v\n%s", value, debug.Stack()))
		c.render(w, r, status, "error", view{Title: why.Title, Data: why})
	}
}

// setHeaders sets what every answer carries.
func setHeaders(header http.Header) {
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	// With no-referrer a browser would not say either where a form was posted from.
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
}

// routes lists every path. Those of pages ask for a session.
func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", c.showLogin)
	mux.HandleFunc("POST /login", c.login)
	mux.HandleFunc("POST /logout", c.logout)
	mux.HandleFunc("GET /static/{file}", c.serveAsset)
	mux.HandleFunc("/", c.showNothing) // without a way to sign in, which would repeat the path
	for pattern, show := range map[string]handler{
		"GET /{$}":    showHome,
		"GET /search": search,
		"GET /live":   followLive,

		"GET /watches":              listWatches,
		"GET /watches/{id}":         showWatch,
		"POST /watches/{id}/cancel": cancelWatch,

		"GET /deliveries":                 listDeliveries,
		"GET /deliveries/{id}":            showDelivery,
		"POST /deliveries/{id}/redeliver": redeliver,

		"GET /events":      listEvents,
		"GET /events/{id}": showEvent,

		"GET /destinations":                     listDestinations,
		"GET /destinations/{id}":                showDestination,
		"POST /destinations/{id}/test":          testDestination,
		"POST /destinations/{id}/enable":        enableDestination,
		"POST /destinations/{id}/disable":       disableDestination,
		"POST /destinations/{id}/rotate-secret": rotateSecret,
		"POST /destinations/{id}/delete":        deleteDestination,
		"GET /destinations/{id}/recover":        showRecover,
		"POST /destinations/{id}/recover":       recoverDestination,

		"GET /credentials":      listCredentials,
		"GET /credentials/{id}": showCredential,

		"GET /sources": listSources,

		"GET /keys":              listKeys,
		"POST /keys":             createKey,
		"POST /keys/{id}/revoke": revokeKey,
	} {
		mux.Handle(pattern, c.page(show))
	}
	return mux
}

// handler makes one page. It answers, or returns why it cannot.
type handler func(*page) error

// page is one request under a session.
type page struct {
	*Console

	ctx context.Context //nolint:containedctx // a page is one request; this has the session's key, for the API
	w   http.ResponseWriter
	r   *http.Request
	key storage.Key
}

// showNothing answers for a path that is no page's.
func (c *Console) showNothing(w http.ResponseWriter, r *http.Request) {
	key, _ := c.sessionKey(r) // without one the page says the same, and offers nothing
	p := &page{Console: c, w: w, r: r, key: key, ctx: api.WithKey(asking(w, r), key)}
	p.fail(storage.ErrNotFound)
}

// page shows a page to whoever has a session, and sends others to sign in.
func (c *Console) page(show handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, err := c.sessionKey(r)
		if errors.Is(err, storage.ErrNotFound) {
			toLogin(w, r)
			return
		}
		p := &page{Console: c, w: w, r: r, key: key, ctx: api.WithKey(asking(w, r), key)}
		if err == nil {
			err = show(p)
		}
		if err != nil {
			p.fail(err)
		}
	})
}
