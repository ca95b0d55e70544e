package api

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
)

// docsWebhook is what the document tells receivers: x-webhooks, its one entry.
type docsWebhook struct {
	Summary, Description string
	Headers              []docsField
	Bodies               []docsBody
	Answers              []docsAnswer
	Samples              []docsSample
}

type (
	// docsBody is a body as it may be.
	docsBody struct {
		Type, Schema, Description, Example string
	}
	// docsSample is a program, by the key that other tools read, too.
	docsSample struct {
		Lang, Label, Source string
	}
)

func docsWebhookOf(spec *openapi3.T) (shown docsWebhook, err error) {
	var webhooks struct {
		Event struct {
			Post openapi3.Operation `json:"post"`
		} `json:"event"`
	}
	var samples []docsSample
	if err = remarshal(spec.Extensions["x-webhooks"], &webhooks); err == nil {
		err = remarshal(webhooks.Event.Post.Extensions["x-codeSamples"], &samples)
	}
	post := webhooks.Event.Post
	if err != nil || post.RequestBody == nil {
		return shown, fmt.Errorf("api: read x-webhooks: %w", err)
	}
	shown = docsWebhook{Summary: post.Summary, Description: post.Description, Samples: samples}
	for _, p := range post.Parameters {
		example, _ := p.Value.Example.(string)
		shown.Headers = append(shown.Headers, docsField{Name: p.Value.Name, Type: example, Description: p.Value.Description})
	}
	shown.Bodies = docsBodies(spec, post.RequestBody.Value.Content.Get(contentTypeJSON).Examples)
	for _, status := range sortedKeys(post.Responses.Map()) {
		shown.Answers = append(shown.Answers, docsAnswer{
			Status: status, Description: or(post.Responses.Value(status).Value.Description, ""),
		})
	}
	return shown, nil
}

// docsBodies are the examples, one for each type of event, in the order of the types.
func docsBodies(spec *openapi3.T, examples openapi3.Examples) []docsBody {
	body := spec.Components.Schemas["EventBody"].Value
	types := enumNames(spec.Components.Schemas["EventType"].Value)
	names := sortedKeys(examples)
	slices.SortFunc(names, func(a, b string) int { return slices.Index(types, a) - slices.Index(types, b) })
	var shown []docsBody
	for _, name := range names {
		value, _ := examples[name].Value.Value.(map[string]any)
		one := docsBody{Type: name, Description: examples[name].Value.Summary, Example: exampleText(body, value)}
		for _, ref := range body.OneOf {
			if ref.Value == oneThatFits(body, value) {
				one.Schema = schemaType(ref)
			}
		}
		shown = append(shown, one)
	}
	return shown
}

// remarshal reads an extension of the document, which the library keeps as it is.
func remarshal(extension, into any) error {
	text, err := json.Marshal(extension)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
