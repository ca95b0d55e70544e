package api

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

const (
	defaultSource   = "cloudflare.lists"
	defaultUpstream = storage.UpstreamCloudflare
)

// Sources are the kinds of operation that can be watched.
type Sources interface {
	// All are all sources, by name.
	All() []Source
	Find(name string) (Source, bool)
	// Check says what is wrong with a watch's values, by the parameter's name or operation_id.
	Check(source, operationID string, params map[string]string) map[string]string
	// Auth are the ways to authenticate at an upstream; none if there is no such upstream.
	Auth(upstream string) []string
}

// ListSources shows all sources: GET /v1/sources.
func (s *Server) ListSources(c echo.Context) error {
	return respond(c, SourceList{Data: s.sources.All()})
}

// GetSource shows a source: GET /v1/sources/{source_name}.
func (s *Server) GetSource(c echo.Context, name SourceName) error {
	found, ok := s.sources.Find(name)
	if !ok {
		return storage.ErrNotFound
	}
	return respond(c, found)
}

// checkSource holds a watch to its source. It returns the source and all of the watch's parameters.
func (s *Server) checkSource(pointer string, w NewWatch, f *faults) (Source, map[string]string) {
	source, ok := s.sources.Find(or(w.Source, defaultSource))
	if pointer != "" && slices.ContainsFunc(f.list, func(fault Fault) bool { return fault.Pointer == pointer }) {
		return source, nil // it is no watch
	}
	if !ok {
		f.addf(pointer+at("source"), "there is no such source%s", oneOf("; known: ", s.sourceNames()))
		return source, nil
	}
	params := maps.Clone(map[string]string(or(w.Params, nil)))
	if params == nil {
		params = map[string]string{}
	}
	if w.AccountID != nil {
		other, twice := params[storage.ParamAccountID]
		f.refuse(twice && other != *w.AccountID, pointer+at("params", storage.ParamAccountID), "is another than /account_id: send one of them")
		params[storage.ParamAccountID] = *w.AccountID
	}
	if _, given := params["operation_id"]; given {
		f.addf(pointer+at("params", "operation_id"), "stands beside params, as /operation_id")
		delete(params, "operation_id")
	}
	wrong := s.sources.Check(source.Name, w.OperationID, params)
	for _, name := range slices.Sorted(maps.Keys(wrong)) {
		place := at("params", name)
		switch _, inParams := or(w.Params, nil)[name]; {
		case name == "operation_id" && w.OperationID == "":
			continue // the document says that it is required
		case name == "source", name == "operation_id", name == storage.ParamAccountID && !inParams:
			place = at(name)
		}
		f.addf(pointer+place, "%s", wrong[name])
	}
	return source, params
}

func (s *Server) sourceNames() []string {
	return each(s.sources.All(), func(source Source) string { return source.Name })
}

// fieldsOf are the fields of a credential that a way to authenticate takes.
func fieldsOf(auth string) []string {
	switch auth {
	case "cloudflare_key":
		return []string{"email", "api_key"}
	case "basic":
		return []string{"username", "password"}
	case "oauth2_client":
		return []string{"client_id", "client_secret"}
	case "google_service_account":
		return []string{"service_account"}
	case "none":
		return nil
	default: // bearer, header:NAME
		return []string{"api_token"}
	}
}

// checkFields holds the fields of a credential to the first of the upstream's ways to
// authenticate that takes one of them.
func (s *Server) checkFields(upstream string, given []string, f *faults) {
	ways := s.sources.Auth(upstream)
	if len(ways) == 0 {
		upstreams := each(s.sources.All(), func(source Source) string { return source.Upstream })
		f.addf("/upstream", "there is no such upstream%s", oneOf("; known: ", slices.Compact(upstreams)))
		return
	}
	isGiven := func(name string) bool { return slices.Contains(given, name) }
	way := max(slices.IndexFunc(ways, func(way string) bool { return slices.ContainsFunc(fieldsOf(way), isGiven) }), 0)
	wanted := fieldsOf(ways[way])
	takes := upstream + " takes " + strings.Join(unique(each(ways, fieldsText)), ", or ")
	for _, name := range given {
		f.refuse(!slices.Contains(wanted, name), at(name), "does not belong here: "+takes)
	}
	for _, name := range wanted {
		f.refuse(!isGiven(name), at(name), "is required: "+takes)
	}
}

func fieldsText(way string) string {
	return cmp.Or(strings.Join(fieldsOf(way), " and "), "nothing")
}
