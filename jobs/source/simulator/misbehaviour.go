package simulator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"
)

// misbehaviour is one way of spoiling an honest answer.
type misbehaviour struct {
	name  string
	apply func(*Simulator, *Response)
}

// Misbehaviours are the names that [Config.Misbehave] can have.
func Misbehaviours() []string {
	var names []string
	for _, m := range misbehaviours() {
		names = append(names, m.name)
	}
	return names
}

const htmlPage = "<!DOCTYPE html>\n<html><head><title>Error</title></head><body><center><h1>Bad gateway</h1></center></body></html>\n"

// misbehaviours is the table of them all.
func misbehaviours() []misbehaviour {
	page := func(status int) func(*Simulator, *Response) {
		return func(_ *Simulator, a *Response) {
			a.Status, a.Body = status, []byte(htmlPage)
			a.Header.Set("Content-Type", "text/html; charset=UTF-8")
		}
	}
	refusal := func(status int) func(*Simulator, *Response) {
		return func(s *Simulator, a *Response) { *a = *s.refusal(status) }
	}
	ending := func(e Ending) func(*Simulator, *Response) {
		return func(_ *Simulator, a *Response) { a.Ending = e }
	}
	return []misbehaviour{
		{"unknown_status", func(s *Simulator, a *Response) { s.change(a, "unheard_of") }},
		{"status_missing", func(s *Simulator, a *Response) { s.change(a, nil) }},
		{"html", page(http.StatusOK)},
		{"status", page(http.StatusBadGateway)},
		{"unauthorized", refusal(http.StatusUnauthorized)},
		{"forbidden", refusal(http.StatusForbidden)},
		{"blocked", page(http.StatusForbidden)},
		{"not_found", refusal(http.StatusNotFound)},
		{"rate_limited", refusal(http.StatusTooManyRequests)},
		{"redirect", func(_ *Simulator, a *Response) {
			a.Status, a.Body = http.StatusFound, nil
			a.Header.Set("Location", "https://elsewhere.invalid/")
		}},
		{"slow", func(_ *Simulator, a *Response) { a.Delay = 5 * time.Second }},
		{"hang", ending(Hangs)},
		{"endless", ending(NeverEnds)},
		{"truncated", ending(BreaksOff)},
		{"reset", ending(Resets)},
	}
}

// change puts another status into an answer.
func (s *Simulator) change(a *Response, status any) {
	var body any
	decoder := json.NewDecoder(bytes.NewReader(a.Body))
	decoder.UseNumber()
	_ = decoder.Decode(&body)
	for _, pointer := range s.config.Source.Status {
		replace(body, pointer, func(any) any { return status })
	}
	a.Body = encode(body)
}
