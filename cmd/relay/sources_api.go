package main

import (
	"oprelay/api"
	"oprelay/jobs/source"
)

// sources tells the API what of the definitions it asks for.
type sources struct{ *source.Set }

// All implements api.Sources.
func (s sources) All() []api.Source {
	var all []api.Source
	for _, one := range s.Sources() {
		all = append(all, described(one))
	}
	return all
}

// Find implements api.Sources.
func (s sources) Find(name string) (api.Source, bool) {
	one := s.Source(name)
	if one == nil {
		return api.Source{}, false
	}
	return described(one), true
}

// Check implements api.Sources.
func (s sources) Check(name, operationID string, params map[string]string) map[string]string {
	return s.Source(name).Check(operationID, params)
}

// Auth implements api.Sources.
func (s sources) Auth(upstream string) []string {
	u := s.Upstream(upstream)
	if u == nil {
		return nil
	}
	return auths(u)
}

func auths(u *source.Upstream) []string {
	names := make([]string, len(u.Auth))
	for i, auth := range u.Auth {
		names[i] = string(auth)
	}
	return names
}

func described(s *source.Source) api.Source {
	answer := api.Source{
		Name: s.Name, Upstream: s.Upstream.Name, Title: s.Title, Docs: s.Docs, Params: []api.SourceParam{},
		OperationID: api.SourceOperationID{Pattern: s.OperationID.Pattern, Example: s.OperationID.Example}, Auth: auths(s.Upstream),
	}
	for _, p := range s.Params {
		answer.Params = append(answer.Params, api.SourceParam{Name: p.Name, Pattern: p.Pattern, Example: p.Example, Required: true})
	}
	return answer
}
