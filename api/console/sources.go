package console

import (
	"maps"
	"slices"
	"strings"

	"oprelay/api/client"
	"oprelay/storage"
)

// sourcesPage is /sources.
type sourcesPage struct{ Sources []shownSource }

// shownSource is a source, and the command that watches one of its operations.
type shownSource struct {
	client.Source

	Command string
}

func listSources(p *page) error {
	known, err := p.sources()
	if err != nil {
		return err
	}
	return p.show("sources", view{Title: "Sources", Section: "/sources", Data: sourcesPage{each(known, showSource)}})
}

func (p *page) sources() ([]client.Source, error) {
	list, err := decode[client.SourceList](p.api.ListSources(p.ctx))
	return list.Data, err
}

// showSource adds the command. What somebody has to fill in is in capitals.
func showSource(source client.Source) shownSource {
	words := []string{"relay watch OPERATION_ID --source", source.Name}
	for _, param := range source.Params {
		if param.Name == storage.ParamAccountID {
			words = append(words, "--account ACCOUNT_ID")
			continue
		}
		words = append(words, "--param", param.Name+"="+strings.ToUpper(param.Name))
	}
	return shownSource{source, strings.Join(words, " ") + " \\\n  --credential CREDENTIAL_ID --destination DESTINATION_ID"}
}

// sourceNames are the names to filter by, and the one that is chosen, if any: a source may be gone, and its watches not.
func sourceNames(known []client.Source, chosen string) []string {
	names := each(known, func(source client.Source) string { return source.Name })
	if chosen != "" && !slices.Contains(names, chosen) {
		names = append(names, chosen)
	}
	return names
}

// shownParam is a parameter of an operation, with its name for people.
type shownParam struct{ Name, Value string }

// Short is the beginning of the value.
func (p shownParam) Short() string { return short(&p.Value) }

// paramsOf are an operation's parameters in the order of their names.
func paramsOf(operation client.Operation) []shownParam {
	return each(slices.Sorted(maps.Keys(operation.Params)), func(name string) shownParam {
		return shownParam{paramName(name), operation.Params[name]}
	})
}

// paramName is a parameter's name for people: Account for account_id, as in Slack.
func paramName(name string) string {
	name = words(strings.TrimSuffix(name, "_id"))
	return strings.ToUpper(name[:min(len(name), 1)]) + name[min(len(name), 1):]
}

// ownWord is the upstream's word for an operation's status, unless the relay has the same.
func ownWord(operation client.Operation) string {
	if operation.UpstreamStatus == nil || operation.Status != nil && string(*operation.Status) == *operation.UpstreamStatus {
		return ""
	}
	return short(operation.UpstreamStatus)
}

// authWords are the ways to authenticate, in the words of an upstream's definition and of a credential's answer.
//
//nolint:gochecknoglobals,gosec // a constant that Go cannot declare as such; no credentials
var authWords = map[string]string{
	"bearer":                 "an API token",
	"api_token":              "an API token",
	"cloudflare_key":         "an email with its API key",
	"api_key":                "an email with its API key",
	"basic":                  "a user name with its password",
	"oauth2_client":          "the id and secret of an OAuth 2 client",
	"google_service_account": "the key of a Google service account",
	"none":                   "no secret",
}

// auth is a way to authenticate in words.
func auth(way string) string {
	if name, ok := strings.CutPrefix(way, "header:"); ok {
		return "an API token, in the header " + name
	}
	if known, ok := authWords[way]; ok {
		return known
	}
	return words(way)
}

// anyAuth are ways to authenticate of which one is enough.
func anyAuth(ways []string) string { return strings.Join(each(ways, auth), ", or ") }

// secretFields are the fields of a credential that hold its secret, by its auth.
//
//nolint:gochecknoglobals // a constant that Go cannot declare as such
var secretFields = map[client.CredentialAuth][]string{
	client.AuthAPIToken:             {"api_token"},
	client.AuthAPIKey:               {"email", "api_key"},
	client.AuthBasic:                {"username", "password"},
	client.AuthOAuth2Client:         {"client_id", "client_secret"},
	client.AuthGoogleServiceAccount: {"service_account"},
}
