package console

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"oprelay/storage"
)

// action is a button that asks before it acts.
type action struct {
	URL     string
	Label   string // of the button that asks
	Ask     string // what will happen
	Confirm string // of the button that acts; Label if empty
	Danger  bool   // it cannot be undone
	Fields  []field
	Back    string // the page to come back to, if the action leaves that open
}

// field is an input of an action's form.
type field struct {
	Name, Label, Value string
	Type               string // of the input; text if empty
	Hint               string
	Required           bool
	Options            []option // makes it a choice
}

// option is a value to choose, and what it says.
type option struct{ Value, Label string }

// ConfirmLabel is what the button says that acts.
func (a action) ConfirmLabel() string { return cmp.Or(a.Confirm, a.Label) }

// offer returns the action if the session's key has the scope, else nil: a page shows no more than that.
func (p *page) offer(needed storage.Scope, a action) *action {
	if !p.key.May(needed) {
		return nil
	}
	return &a
}

// once is the Idempotency-Key of an action: a form that is sent twice acts once.
func (p *page) once() *string {
	if sent := p.r.PostFormValue("once"); sent != "" {
		return &sent
	}
	return nil
}

// back leads to a path of the console after an action; done names the notice that says what was done.
func (p *page) back(to, done string) error {
	http.Redirect(p.w, p.r, to+"?done="+done+"."+p.mark(to, done), http.StatusSeeOther)
	return nil
}

// notice is what the page says that ?done= names. A link that somebody else has made says nothing.
func (p *page) notice() string {
	done, mark, _ := strings.Cut(p.r.URL.Query().Get("done"), ".")
	if !hmac.Equal([]byte(mark), []byte(p.mark(p.r.URL.Path, done))) {
		return ""
	}
	return notices[done]
}

// mark binds a notice to its page and to the session.
func (p *page) mark(path, done string) string {
	var token string
	if cookie, err := p.r.Cookie(p.cookieName(p.r)); err == nil {
		token = cookie.Value
	}
	sum := hmac.New(sha256.New, []byte(token))
	_, _ = sum.Write([]byte(path + "?" + done)) // never fails
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// notices are what a page says at its top after an action; ?done= names one.
//
//nolint:gochecknoglobals // a constant that Go cannot declare as such
var notices = map[string]string{
	"canceled":    "The watch is canceled.",
	"ended":       "The watch had ended before: it is not canceled.",
	"redelivered": "It is on its way again.",
	"tested":      "The test is on its way.",
	"enabled":     "The destination is enabled: what waited goes out.",
	"disabled":    "The destination is disabled: what is for it is held.",
	"deleted":     "The destination is deleted.",
	"recovered":   "What was not accepted is on its way again.",
	"revoked":     "The key is revoked.",
}
