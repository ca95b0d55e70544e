package console

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"oprelay/api/client"
	"oprelay/storage"
)

//go:embed templates
var templateFiles embed.FS

// templates are the pages by the name of their file. Each has the layout and the parts.
type templates map[string]*template.Template

func (c *Console) loadTemplates() (templates, error) {
	shared, err := template.New("").Funcs(c.functions()).ParseFS(templateFiles, "templates/shared/*.html")
	if err != nil {
		return nil, err
	}
	files, err := templateFiles.ReadDir("templates")
	if err != nil {
		return nil, err
	}
	pages := make(templates)
	for _, file := range files {
		if file.IsDir() {
			continue
		}
		own, err := shared.Clone()
		if err == nil {
			own, err = own.ParseFS(templateFiles, path.Join("templates", file.Name()))
		}
		if err != nil {
			return nil, err
		}
		pages[strings.TrimSuffix(file.Name(), ".html")] = own
	}
	return pages, nil
}

// view is what the layout shows around a page.
type view struct {
	Title   string
	Section string // the path of the navigation's entry
	Data    any    // the page's own
	// Live has the page brought up to date when a watch moves: the one of that id, "any", or one that is "shown".
	Live string
	// Refresh is after how many seconds the page is brought up to date, whatever the stream tells; 0 for never.
	Refresh int

	// Of the session; set by page.show.
	Key    *storage.Key // nil without one
	Search string
	Notice string
	Base   string // the relay's address, for commands
}

// How often a page is looked at again for what the stream does not tell of: attempts, destinations, credentials.
const (
	refreshOne  = 5  // seconds, of a page about a few things
	refreshMany = 10 // of a list, or of what seldom moves
)

// May says whether the session's key has the scope, so that what it may not do is not offered.
func (v view) May(scope string) bool { return v.Key != nil && v.Key.May(storage.Scope(scope)) }

// show answers with a page.
func (p *page) show(name string, v view) error { return p.showAs(http.StatusOK, name, v) }

func (p *page) showAs(status int, name string, v view) error {
	v.Key = &p.key
	v.Base = p.base()
	v.Search = p.r.URL.Query().Get("q")
	v.Notice = p.notice()
	p.render(p.w, p.r, status, name, v)
	return nil
}

// render writes a page, all of it or none.
func (c *Console) render(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	var out bytes.Buffer
	pages, err := c.templates()
	if err == nil {
		err = pages[name].ExecuteTemplate(&out, "layout", v)
	}
	if err != nil {
		c.logger.ErrorContext(r.Context(), "page not made", "page", name, "error", err)
		http.Error(w, "A fault of the relay: its log tells the cause.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(out.Bytes()) // the browser may be gone
	}
}

// fault is why a page cannot be shown, in words.
type fault struct {
	Title, Detail string
	Errors        []client.Fault
	Wait          int // seconds; 0 if waiting does not help
	RequestID     string
}

// explain puts an error into words: the API's own where it has some.
func (c *Console) explain(w http.ResponseWriter, err error) (status int, f fault) {
	id := w.Header().Get("X-Request-ID")
	var answered *problem
	switch {
	case errors.As(err, &answered):
		return answered.Status, fault{answered.Title, answered.forPeople(), answered.Errors, answered.retryAfter, id}
	case errors.Is(err, storage.ErrNotFound):
		return http.StatusNotFound, fault{
			Title:  "There is no such page",
			Detail: "Check the address. What belongs to another tenant cannot be seen, and what is older than the retention is gone.",
		}
	case storage.Unavailable(err):
		return http.StatusServiceUnavailable, fault{
			Title:  "The database " + storage.Complaint(err),
			Detail: "Nothing is lost. Load the page again in a moment.", Wait: 1, RequestID: id,
		}
	case errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, fault{Title: "The request was canceled", Detail: "Load the page again."}
	}
	c.logger.Error("page failed", "error", err, "request_id", id)
	return http.StatusInternalServerError, fault{
		Title: "A fault of the relay", Detail: "The cause is in the relay's log under the request's id.", RequestID: id,
	}
}

// fail answers with why the page cannot be shown.
func (p *page) fail(err error) {
	status, why := p.explain(p.w, err)
	if why.Wait > 0 {
		p.w.Header().Set("Retry-After", strconv.Itoa(why.Wait))
	}
	v := view{Title: why.Title, Data: why}
	if p.key.ID == "" { // whose session it is could not be found out
		p.render(p.w, p.r, status, "error", v)
		return
	}
	_ = p.showAs(status, "error", v) // never fails
}

// denyOrigin answers what another site has posted.
func (c *Console) denyOrigin(w http.ResponseWriter, r *http.Request) {
	c.render(w, r, http.StatusForbidden, "error", view{Title: "This came from another site", Data: fault{
		Title:  "This came from another site",
		Detail: "Forms of the console are taken from the console's own pages alone. Open it in this browser and try again.",
	}})
}

// seconds is a short time in words.
func seconds(n int) string { return duration(time.Duration(n) * time.Second) }
