package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"oprelay/api/client"
)

// inside sends requests to a handler of this process.
type inside struct{ handler http.Handler }

// origin is where a context has what the API should know of a page's request.
type origin struct{}

// asking is the context of the API's requests for a page. To the API they come from where the
// page's request came from, under the same id.
func asking(w http.ResponseWriter, r *http.Request) context.Context {
	from := &http.Request{RemoteAddr: r.RemoteAddr, Header: http.Header{
		"X-Forwarded-For": r.Header["X-Forwarded-For"],
		"X-Request-Id":    w.Header()["X-Request-Id"],
	}}
	return context.WithValue(r.Context(), origin{}, from)
}

// Do answers the request.
func (i inside) Do(r *http.Request) (*http.Response, error) {
	a := &answer{header: http.Header{}, status: http.StatusOK}
	i.serve(a, r)
	return &http.Response{
		Status: http.StatusText(a.status), StatusCode: a.status, Header: a.header, Request: r,
		Body: body{bytes.NewReader(a.body.Bytes())}, ContentLength: int64(a.body.Len()),
	}, nil
}

// serve has the handler answer the request.
func (i inside) serve(w http.ResponseWriter, r *http.Request) {
	if from, ok := r.Context().Value(origin{}).(*http.Request); ok {
		r.RemoteAddr = from.RemoteAddr
		maps.Copy(r.Header, from.Header)
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	i.handler.ServeHTTP(w, r)
}

// answer is the http.ResponseWriter of a request from inside.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

type body struct{ *bytes.Reader }

func (body) Close() error { return nil }

// problem is an answer of the API that is no success.
type problem struct {
	client.Problem

	retryAfter int // in seconds; 0 if it says nothing of it
}

// forPeople is the detail with the time that programs read in a header.
func (p *problem) forPeople() string {
	wait := "a moment"
	if p.retryAfter > 0 {
		wait = seconds(p.retryAfter)
	}
	return strings.ReplaceAll(p.Detail, "the time in Retry-After", wait)
}

func (p *problem) Error() string { return fmt.Sprintf("the API answers %d: %s", p.Status, p.Detail) }

// decode reads what the API answers; a [problem] is returned as an error.
func decode[T any](response *http.Response, err error) (value T, _ error) {
	if err != nil {
		return value, fmt.Errorf("ask the API: %w", err)
	}
	defer response.Body.Close()
	read := json.NewDecoder(response.Body)
	if response.StatusCode >= http.StatusBadRequest {
		var p problem
		if err := read.Decode(&p.Problem); err != nil {
			return value, fmt.Errorf("read the API's problem: %w", err)
		}
		p.retryAfter, _ = strconv.Atoi(response.Header.Get("Retry-After"))
		return value, &p
	}
	if response.StatusCode == http.StatusNoContent {
		return value, nil
	}
	if err := read.Decode(&value); err != nil {
		return value, fmt.Errorf("read the API's answer: %w", err)
	}
	return value, nil
}
