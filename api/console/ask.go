package console

import (
	"errors"
	"net/http"
	"strings"

	"oprelay/api/client"
)

// largest is the longest page of a list that the API gives.
const largest = 200

// found is an answer of the API, or nil if there is no such thing.
func found[T any](value T, err error) (*T, error) {
	var answered *problem
	if errors.As(err, &answered) && answered.Status == http.StatusNotFound {
		return nil, nil //nolint:nilnil // what a page refers to may be gone
	}
	if err != nil {
		return nil, err
	}
	return &value, nil
}

// each converts every value.
func each[A, B any](values []A, convert func(A) B) []B {
	converted := make([]B, len(values))
	for i, value := range values {
		converted[i] = convert(value)
	}
	return converted
}

// destinations are the tenant's newest, by id.
type destinations map[string]client.Destination

func (p *page) destinations() (destinations, error) {
	most := largest
	list, err := decode[client.DestinationList](p.api.ListDestinations(p.ctx, &client.ListDestinationsParams{Limit: &most}))
	if err != nil {
		return nil, err
	}
	known := make(destinations)
	for _, destination := range list.Data {
		known[destination.ID] = destination
	}
	return known, nil
}

// of is the destination; one that is not among them has its id alone.
func (known destinations) of(id string) client.Destination {
	if destination, ok := known[id]; ok {
		return destination
	}
	return client.Destination{ID: id}
}

// curl is a request to the API as a command.
func (p *page) curl(path, method string) string {
	command := "curl"
	if method != "" {
		command += " -X " + method
	}
	return command + ` -H "Authorization: Bearer $RELAY_API_KEY" ` + quote(p.base()+path)
}

// base is the relay's address as the browser has it.
func (p *page) base() string {
	if p.secure != "" {
		return p.secure
	}
	scheme := "http://"
	if overTLS(p.r) {
		scheme = "https://"
	}
	return scheme + p.r.Host
}

// quote makes a text one word of a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
