package api_test

import (
	"regexp"
	"slices"

	"oprelay/api"
)

// testSources are a few sources of as many ways to authenticate. The real ones are in jobs,
// which the API does not know; cmd/relay tests the two together.
type testSources []api.Source

func sources() testSources {
	const hex32 = "[0-9a-f]{32}"
	source := func(upstream, key, id string, auth []string, params ...api.SourceParam) api.Source {
		return api.Source{
			Name: upstream + "." + key, Upstream: upstream, Title: key, Params: append([]api.SourceParam{}, params...),
			OperationID: api.SourceOperationID{Pattern: id}, Auth: auth,
		}
	}
	param := func(name, pattern string) api.SourceParam {
		return api.SourceParam{Name: name, Pattern: pattern, Required: true}
	}
	return testSources{
		source("acme", "job", "[0-9]+", []string{"basic", "oauth2_client"}),
		source("cloudflare", "lists", hex32, []string{"bearer", "cloudflare_key"}, param("account_id", hex32)),
		source("cloudflare", "workflow", "[a-z0-9-]+", []string{"bearer", "cloudflare_key"}, param("account_id", hex32), param("workflow", "[a-z-]+")),
		source("github", "run", "[0-9]+", []string{"bearer"}, param("owner", "[a-z]+"), param("repo", "[a-z]+")),
		source("google", "operation", "[a-z/]+", []string{"google_service_account"}),
		source("open", "job", ".+", []string{"none"}),
	}
}

// All implements api.Sources.
func (s testSources) All() []api.Source { return s }

// Find implements api.Sources.
func (s testSources) Find(name string) (api.Source, bool) {
	i := slices.IndexFunc(s, func(source api.Source) bool { return source.Name == name })
	if i < 0 {
		return api.Source{}, false
	}
	return s[i], true
}

// Check implements api.Sources.
func (s testSources) Check(name, operationID string, params map[string]string) map[string]string {
	source, _ := s.Find(name)
	faults, left := map[string]string{}, map[string]bool{}
	for given := range params {
		left[given] = true
	}
	hold := func(name, pattern, value string) {
		if !regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(value) {
			faults[name] = "must match " + pattern
		}
	}
	hold("operation_id", source.OperationID.Pattern, operationID)
	for _, p := range source.Params {
		delete(left, p.Name)
		if _, given := params[p.Name]; !given {
			faults[p.Name] = "is required by " + name
			continue
		}
		hold(p.Name, p.Pattern, params[p.Name])
	}
	for unknown := range left {
		faults[unknown] = "is no parameter of " + name
	}
	return faults
}

// Auth implements api.Sources.
func (s testSources) Auth(upstream string) []string {
	i := slices.IndexFunc(s, func(source api.Source) bool { return source.Upstream == upstream })
	if i < 0 {
		return nil
	}
	return s[i].Auth
}
