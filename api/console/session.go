package console

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"oprelay/api/client"
	"oprelay/storage"
)

// The session's cookie. A browser takes one with the prefix only if it is Secure, of this host
// alone, and of every path.
const (
	secureCookie = "__Host-relay_session"
	plainCookie  = "relay_session"
)

// sessionKey is the key of the request's session. storage.ErrNotFound without a session.
func (c *Console) sessionKey(r *http.Request) (storage.Key, error) {
	cookie, err := r.Cookie(c.cookieName(r))
	if err != nil {
		return storage.Key{}, storage.ErrNotFound
	}
	return c.store.SessionKey(r.Context(), cookie.Value)
}

// cookieName is the session's cookie of a request.
func (c *Console) cookieName(r *http.Request) string {
	if c.secure == "" && onPlainLoopback(r) {
		return plainCookie
	}
	return secureCookie
}

// onPlainLoopback says whether the browser speaks plain HTTP to this very machine: the one place
// where a cookie need not be Secure. Anybody may send X-Forwarded-Proto, which here makes the
// cookie stricter at most. With an address of the console's that is https, no place is.
func onPlainLoopback(r *http.Request) bool {
	return !overTLS(r) && isLoopback(r.Host) && isLoopback(r.RemoteAddr)
}

// overTLS says whether the browser speaks TLS: with the relay, or with the first of the proxies.
func overTLS(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return r.TLS != nil || strings.EqualFold(strings.TrimSpace(first), "https")
}

func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	address, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && address.Unmap().IsLoopback()
}

// losesCookie says whether the browser will refuse the cookie, since it speaks plain HTTP to
// another machine. One that sends Sec-Fetch-Site takes the address for trustworthy: a proxy
// speaks TLS with it.
func losesCookie(r *http.Request) bool {
	return !overTLS(r) && !isLoopback(r.Host) && r.Header.Get("Sec-Fetch-Site") == ""
}

// toLogin sends whoever has no session to sign in, and from there back to where it wanted to.
func toLogin(w http.ResponseWriter, r *http.Request) {
	target := "/login"
	if next := r.URL.RequestURI(); r.Method == http.MethodGet && next != "/" {
		target += "?next=" + url.QueryEscape(next)
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// ownPath is where to go after signing in: a page of the console's own, else the home page.
func ownPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsAny(next, "\\\t\r\n") || strings.HasPrefix(u.Path, "//") || path.Clean(u.Path) != u.Path {
		return "/"
	}
	first, _, _ := strings.Cut(u.Path[1:], "/")
	if first != "" && !slices.Contains(sections(), first) {
		return "/" // the API's, which asks for a key, or nothing to look at
	}
	return next
}

// sections are the first parts of the paths of pages.
func sections() []string {
	return []string{"search", "watches", "deliveries", "events", "destinations", "credentials", "sources", "keys"}
}

// loginForm is what the login page shows.
type loginForm struct {
	Next      string
	Fault     string
	PlainHTTP bool // the browser would lose the cookie
}

func (c *Console) showLogin(w http.ResponseWriter, r *http.Request) {
	next := ownPath(r.URL.Query().Get("next"))
	if _, err := c.sessionKey(r); err == nil {
		http.Redirect(w, r, next, http.StatusSeeOther) //nolint:gosec // a path of our own
		return
	}
	c.render(w, r, http.StatusOK, "login", view{Title: "Sign in", Data: loginForm{Next: next, PlainHTTP: losesCookie(r)}})
}

// login begins a session. The key is first shown to the API, like any other: that counts wrong
// ones against the address.
func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	form := loginForm{Next: ownPath(r.PostFormValue("next")), PlainHTTP: losesCookie(r)}
	key := strings.TrimSpace(r.PostFormValue("key"))
	ctx := asking(w, r)
	one := 1
	_, err := decode[client.WatchList](c.api.ListWatches(ctx, &client.ListWatchesParams{Limit: &one},
		func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+key)
			return nil
		}))
	if err == nil {
		err = c.beginSession(w, r, key)
	}
	if err == nil {
		http.Redirect(w, r, form.Next, http.StatusSeeOther)
		return
	}
	status, fault := c.explain(w, err)
	form.Fault = fault.Detail
	if status == http.StatusUnauthorized {
		form.Fault = "This key is unknown or revoked. It begins with relay_, and was shown once, when it was made."
	}
	if fault.Wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(fault.Wait))
		if wait := seconds(fault.Wait); !strings.Contains(form.Fault, wait) {
			form.Fault += " Wait " + wait + " before the next try."
		}
	}
	c.render(w, r, status, "login", view{Title: "Sign in", Data: form})
}

func (c *Console) beginSession(w http.ResponseWriter, r *http.Request, key string) error {
	token, err := c.store.CreateSession(r.Context(), key)
	if err != nil {
		return err
	}
	http.SetCookie(w, c.sessionCookie(r, string(token), int(storage.SessionTime.Seconds())))
	return nil
}

func (c *Console) sessionCookie(r *http.Request, value string, maxAge int) *http.Cookie {
	name := c.cookieName(r)
	return &http.Cookie{ //nolint:gosec // Secure but on plain loopback
		Name: name, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: name == secureCookie,
	}
}

// logout ends the session, here and in the browser.
func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(c.cookieName(r)); err == nil {
		if err := c.store.EndSession(r.Context(), cookie.Value); err != nil && !errors.Is(err, storage.ErrNotFound) {
			status, fault := c.explain(w, err)
			c.render(w, r, status, "error", view{Title: fault.Title, Data: fault})
			return
		}
	}
	http.SetCookie(w, c.sessionCookie(r, "", -1))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
