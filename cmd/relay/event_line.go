package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"oprelay/api/client"
)

// eventPrinter prints events, one a line. It is safe for concurrent use.
type eventPrinter struct {
	asJSON bool
	view   *progress // for its colors

	mu  sync.Mutex
	out io.Writer
}

func newEventPrinter(out io.Writer, env environment, asJSON bool) *eventPrinter {
	return &eventPrinter{out: out, asJSON: asJSON, view: newProgress(out, env)}
}

// print prints an event, or its JSON.
func (p *eventPrinter) print(event client.Event, asJSON []byte) error {
	line := string(asJSON)
	if !p.asJSON {
		line = p.line(event)
	}
	return p.println(p.out, line)
}

// note prints what became of the event before it. JSON is for programs alone: there it goes to the person.
func (p *eventPrinter) note(text string, person io.Writer) error {
	if p.asJSON {
		return p.println(person, text)
	}
	return p.println(p.out, text)
}

func (p *eventPrinter) println(out io.Writer, line string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := fmt.Fprintln(out, line); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// eventOf reads an event's JSON.
func eventOf(data []byte) (event client.Event, err error) {
	if err := json.Unmarshal(data, &event); err != nil {
		return event, err
	}
	if event.ID == "" || len(event.Body) == 0 {
		return event, fmt.Errorf("%.100q is no event", data)
	}
	return event, nil
}

// about is the part of the events' bodies that a line tells.
type about struct {
	Type string `json:"type"`
	Data struct {
		WatchID   *string `json:"watch_id"`
		Name      string  `json:"name"`
		Reason    string  `json:"reason"`
		LastError string  `json:"last_error"`
		Operation struct {
			ID    string `json:"id"`
			Error string `json:"error"`
		} `json:"operation"`
	} `json:"data"`
}

// line says of an event when it was, what it is, what it is about, why, and its id.
func (p *eventPrinter) line(event client.Event) string {
	var body about
	_ = json.Unmarshal(event.Body, &body) // a body of another shape tells less
	data := body.Data
	subject := cmp.Or(data.Name, data.Operation.ID)
	if data.Name != "" && data.Operation.ID != "" {
		subject = fmt.Sprintf("%s (%s)", data.Name, data.Operation.ID)
	}
	why := strings.Join(notEmpty(data.Operation.Error, data.Reason, data.LastError), ", ")
	if why != "" {
		subject += ": " + why
	}
	kind := p.view.color(colorOf(string(event.Type)), fmt.Sprintf("%-23s", plain(string(event.Type))))
	return strings.Join(notEmpty(event.CreatedAt.UTC().Format(time.RFC3339), kind, plain(subject), plain(event.ID)), "  ")
}

// notEmpty is the texts that say something.
func notEmpty(texts ...string) (some []string) {
	for _, text := range texts {
		if text != "" {
			some = append(some, text)
		}
	}
	return some
}

func colorOf(kind string) string {
	switch {
	case strings.HasSuffix(kind, ".completed"), strings.HasSuffix(kind, ".test"):
		return green
	case strings.HasSuffix(kind, ".failed"):
		return red
	}
	return yellow
}

// oneLine is JSON for programs, with &, < and > as they are, without a line break at its end.
func oneLine(value any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return bytes.TrimSpace(out.Bytes()), err
}
