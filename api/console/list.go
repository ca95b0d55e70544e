package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"oprelay/api/client"
)

// list is what a page with a list shows beside its rows. Its filters are those of the API, in the URL.
type list struct {
	filters     url.Values
	First, Next string // where other pages of the list are; "" where there is none
	Wrong       *fault // the filters are refused, or the page is gone
	refused     int    // its status
}

// Filter is the value of a filter, or "".
func (l list) Filter(name string) string { return l.filters.Get(name) }

// Has says whether a filter, which may be a comma list, has the value.
func (l list) Has(name, value string) bool {
	return slices.Contains(strings.Split(l.filters.Get(name), ","), value)
}

// Moment is a filter's time as an input of a form takes it, in UTC.
func (l list) Moment(name string) string { return momentOf(l.filters.Get(name)) }

func momentOf(text string) string {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return ""
	}
	return at.UTC().Format(momentInput)
}

// Metadata is the filter of metadata, as KEY=VALUE.
func (l list) Metadata() string {
	if wrong := l.filters.Get("metadata"); wrong != "" {
		return wrong
	}
	for name, values := range l.filters {
		if key, ok := strings.CutPrefix(name, "metadata["); ok {
			return strings.TrimSuffix(key, "]") + "=" + values[0]
		}
	}
	return ""
}

// Filtered says whether there is any filter.
func (l list) Filtered() bool { return len(l.filters) > 0 }

// momentInput is how an <input type="datetime-local"> writes a time.
const momentInput = "2006-01-02T15:04"

// metadataPair takes KEY=VALUE apart, if it is that.
func metadataPair(text string) (key, value string, ok bool) {
	key, value, _ = strings.Cut(text, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	return key, value, key != "" && value != ""
}

// query is what a list's page asks the API: its own query, as the API writes it. A form sends every field, also
// those that are empty, a chosen value at a time, and metadata as KEY=VALUE. Metadata that is not that stays as it
// is: the API refuses it.
func (p *page) query() url.Values {
	asked := url.Values{}
	for name, values := range p.r.URL.Query() {
		value := strings.Join(slices.DeleteFunc(values, func(v string) bool { return v == "" }), ",")
		if key, wanted, ok := metadataPair(value); ok && name == "metadata" {
			name, value = "metadata["+key+"]", wanted
		}
		if at, err := time.Parse(momentInput, value); err == nil {
			value = at.Format(time.RFC3339)
		}
		if value != "" && name != "done" {
			asked.Set(name, value)
		}
	}
	return asked
}

// with gives a request to the API its query.
func with(query url.Values) client.RequestEditorFn {
	return func(_ context.Context, r *http.Request) error {
		r.URL.RawQuery = query.Encode()
		return nil
	}
}

// list is for the page after which the API names the next. err is the API's: filters that it refuses, and a place
// in the feed that retention has deleted, are told of beside the form, any other error is returned.
func (p *page) list(next *string, err error) (list, error) {
	l := list{filters: p.query()}
	path := p.r.URL.Path + "?"
	cursor := l.filters.Has("cursor")
	l.filters.Del("cursor")
	if cursor {
		l.First = path + l.filters.Encode()
	}
	if next != nil {
		l.filters.Set("cursor", *next)
		l.Next = path + l.filters.Encode()
		l.filters.Del("cursor")
	}
	l.filters.Del("limit")
	var refused *problem
	if errors.As(err, &refused) && (refused.Status == http.StatusUnprocessableEntity || refused.Status == http.StatusGone) {
		_, wrong := p.explain(p.w, err)
		for i, fault := range wrong.Errors {
			if fault.Pointer == "?metadata" {
				wrong.Errors[i].Detail = "has to be a key and its value, such as team=edge"
			}
		}
		l.Wrong, l.refused, err = &wrong, refused.Status, nil
	}
	return l, err
}

// status is that of the answer.
func (l list) status() int {
	if l.Wrong != nil {
		return l.refused
	}
	return http.StatusOK
}

// canonical leads from the query that a form has sent to the same one as the API writes it, which is shorter
// and can be passed on. It says whether it did.
func (p *page) canonical() bool {
	sent := p.r.URL.Query()
	done := sent.Get("done")
	sent.Del("done")
	query := p.query()
	if sent.Encode() == query.Encode() {
		return false
	}
	if done != "" {
		query.Set("done", done)
	}
	target := p.r.URL.Path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	http.Redirect(p.w, p.r, target, http.StatusSeeOther)
	return true
}
