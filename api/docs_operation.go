package api

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

type (
	docsOperation struct {
		ID, Method, Path, Summary, Description, Scope string
		Parameters                                    []docsField
		Body                                          string   // the name of its schema
		Examples                                      []string // of the request, each a curl
		Answer                                        string   // an example of it, in JSON
		Answers, Errors                               []docsAnswer
	}
	docsAnswer struct {
		Status, Description, Schema string
		Headers                     []string
	}
	docsField struct {
		Name, In, Type, Description string
		Required                    bool
	}
)

func docsOperationOf(o *operation) docsOperation {
	described := o.route.Operation
	shown := docsOperation{
		ID: described.OperationID, Method: o.route.Method, Path: o.route.Path,
		Summary: described.Summary, Description: described.Description, Scope: string(o.scope),
	}
	for _, p := range o.params {
		shown.Parameters = append(shown.Parameters, docsField{
			Name: p.Value.Name, In: p.Value.In, Type: schemaType(p.Value.Schema), Description: p.Value.Description, Required: p.Value.Required,
		})
	}
	if described.RequestBody != nil {
		media := described.RequestBody.Value.Content.Get(contentTypeJSON)
		shown.Body = schemaType(media.Schema)
		for _, body := range examplesOf(media) {
			shown.Examples = append(shown.Examples, o.curl(exampleText(media.Schema.Value, body)))
		}
	}
	if len(shown.Examples) == 0 {
		shown.Examples = []string{o.curl("")}
	}
	for _, status := range sortedKeys(described.Responses.Map()) {
		response := described.Responses.Value(status).Value
		answer := docsAnswer{Status: status, Description: or(response.Description, ""), Schema: answerSchema(response)}
		for _, name := range sortedKeys(response.Headers) {
			answer.Headers = append(answer.Headers, "`"+name+"`: "+response.Headers[name].Value.Description)
		}
		if status >= "4" {
			shown.Errors = append(shown.Errors, answer)
			continue
		}
		shown.Answers = append(shown.Answers, answer)
		shown.Answer = answerExample(response)
	}
	return shown
}

// curl is the request as a command; body is "" for none.
func (o *operation) curl(body string) string {
	lines := []string{"curl -sS"}
	if o.route.Method != http.MethodGet && (body == "" || o.route.Method != http.MethodPost) {
		lines[0] += " -X " + o.route.Method
	}
	lines[0] += ` "$RELAY_URL` + o.examplePath() + `"`
	if o.scope != "" {
		lines = append(lines, `-H "Authorization: Bearer $RELAY_API_KEY"`)
	}
	if body != "" {
		body = strings.ReplaceAll(strings.ReplaceAll(body, "'", `'\''`), "\n", "\n  ")
		lines = append(lines, "-H 'Content-Type: application/json'", "-d '"+body+"'")
	}
	return strings.Join(lines, " \\\n  ")
}

// examplePath is the path with the parameters' examples in it, and of the query the first that has one of its own.
func (o *operation) examplePath() string {
	path, query := o.route.Path, ""
	for _, p := range o.params {
		switch {
		case p.Value.In == openapi3.ParameterInPath:
			id, _ := p.Value.Schema.Value.Example.(string)
			path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", id)
		case p.Value.In == openapi3.ParameterInQuery && query == "" && p.Ref == "" && p.Value.Example != nil:
			query = "?" + p.Value.Name + "=" + queryExample(p.Value.Example)
		}
	}
	return path + query
}

func queryExample(example any) string {
	switch example := example.(type) {
	case string:
		return url.QueryEscape(example)
	case bool:
		return strconv.FormatBool(example)
	case []any:
		var all []string
		for _, one := range example {
			all = append(all, queryExample(one))
		}
		return strings.Join(all, ",")
	}
	return ""
}

func answerSchema(response *openapi3.Response) string {
	if media := response.Content[contentTypeJSON]; media != nil {
		return schemaType(media.Schema)
	}
	return ""
}

// answerExample is an answer as it may be; "" if the document shows none.
func answerExample(response *openapi3.Response) string {
	for _, media := range response.Content {
		if text, ok := media.Example.(string); ok {
			return strings.TrimSpace(text)
		}
		if examples := examplesOf(media); len(examples) > 0 {
			return exampleText(media.Schema.Value, examples[0])
		}
	}
	return ""
}
