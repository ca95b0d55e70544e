package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"regexp"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

var (
	//go:embed docs.html
	docsTemplate string
	//go:embed docs.css
	docsStyle string
)

// docsPage is GET /docs: rendered once, without scripts or anything from
// elsewhere, so that it reads the same on a machine without a network.
type docsPage struct {
	html   []byte
	policy string // the page's Content-Security-Policy
}

// What the template shows.
type (
	docsSection struct {
		Name, Description string
		Operations        []docsOperation
	}
	docsOperation struct {
		ID, Method, Path, Summary, Description, Scope string
		Parameters                                    []docsField
		Body                                          string // the name of its schema
		Answers                                       []docsAnswer
	}
	docsAnswer struct{ Status, Description, Schema string }
	docsField  struct {
		Name, Type, Description string
		Required                bool
	}
	docsSchema struct {
		Name, Description string
		Fields            []docsField
	}
	docsProblem struct {
		Slug, Title, Detail string
		Status              int
	}
)

func renderDocs(d *document) (docsPage, error) {
	page, err := template.New("docs").Funcs(template.FuncMap{"prose": prose}).Parse(docsTemplate)
	if err != nil {
		return docsPage{}, fmt.Errorf("api: read docs.html: %w", err)
	}
	var problems []docsProblem
	for _, kind := range problemKinds() {
		problems = append(problems, docsProblem{kind.slug, kind.title, kind.detail, kind.status})
	}
	var out bytes.Buffer
	err = page.Execute(&out, map[string]any{
		"Style":    template.CSS(docsStyle), //nolint:gosec // our own file
		"Intro":    d.spec.Info.Description,
		"Sections": docsSections(d),
		"Schemas":  docsSchemas(d.spec),
		"Problems": problems,
	})
	if err != nil {
		return docsPage{}, fmt.Errorf("api: render docs.html: %w", err)
	}
	sum := sha256.Sum256([]byte(docsStyle))
	policy := "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-" +
		base64.StdEncoding.EncodeToString(sum[:]) + "'"
	return docsPage{html: out.Bytes(), policy: policy}, nil
}

func docsSections(d *document) []docsSection {
	methods := []string{http.MethodPost, http.MethodGet, http.MethodPatch, http.MethodDelete}
	var sections []docsSection
	for _, tag := range d.spec.Tags {
		section := docsSection{Name: tag.Name, Description: tag.Description}
		for _, path := range d.spec.Paths.InMatchingOrder() {
			for _, method := range methods {
				described := d.spec.Paths.Value(path).GetOperation(method)
				if described != nil && described.Tags[0] == tag.Name {
					section.Operations = append(section.Operations, docsOperationOf(d.operations[described.OperationID]))
				}
			}
		}
		sections = append(sections, section)
	}
	return sections
}

func docsOperationOf(o *operation) docsOperation {
	described := o.route.Operation
	shown := docsOperation{
		ID: described.OperationID, Method: o.route.Method, Path: o.route.Path,
		Summary: described.Summary, Description: described.Description, Scope: string(o.scope),
	}
	for _, p := range o.params {
		shown.Parameters = append(shown.Parameters, docsField{
			p.Value.Name + " (" + p.Value.In + ")", schemaType(p.Value.Schema), p.Value.Description, p.Value.Required,
		})
	}
	if described.RequestBody != nil {
		shown.Body = schemaType(described.RequestBody.Value.Content.Get(contentTypeJSON).Schema)
	}
	for _, status := range sortedKeys(described.Responses.Map()) {
		response := described.Responses.Value(status).Value
		shown.Answers = append(shown.Answers, docsAnswer{status, or(response.Description, ""), answerSchema(response)})
	}
	return shown
}

func answerSchema(response *openapi3.Response) string {
	if media := response.Content[contentTypeJSON]; media != nil {
		return schemaType(media.Schema)
	}
	return ""
}

func docsSchemas(spec *openapi3.T) []docsSchema {
	var shown []docsSchema
	for _, name := range sortedKeys(spec.Components.Schemas) {
		schema := spec.Components.Schemas[name].Value
		entry := docsSchema{Name: name, Description: schema.Description}
		required := make(map[string]bool)
		for _, field := range schema.Required {
			required[field] = true
		}
		for _, field := range sortedKeys(schema.Properties) {
			ref := schema.Properties[field]
			description := ref.Value.Description
			entry.Fields = append(entry.Fields, docsField{field, schemaType(ref), description, required[field]})
		}
		if len(entry.Fields) == 0 {
			entry.Description = strings.TrimSpace(schemaType(&openapi3.SchemaRef{Value: schema}) + ". " + entry.Description)
		}
		shown = append(shown, entry)
	}
	return shown
}

// schemaType is a type in a few words: a schema's name, or its type and limits.
func schemaType(ref *openapi3.SchemaRef) string {
	if ref.Ref != "" {
		return ref.Ref[strings.LastIndex(ref.Ref, "/")+1:]
	}
	schema := ref.Value
	var name string
	switch {
	case schema.Type.Is(openapi3.TypeArray):
		name = "list of " + schemaType(schema.Items)
	case len(schema.Enum) > 0:
		name = strings.Join(enumNames(schema), " | ")
	case schema.Type.Is(openapi3.TypeInteger):
		name = "whole number" + bounds(schema)
	case schema.Format == "date-time":
		name = "time"
	default:
		name = strings.Join(schema.Type.Slice(), " | ")
	}
	if schema.Nullable {
		name += " | null"
	}
	return name
}

// prose turns the document's text into HTML: paragraphs, lists, `code` and
// **strong** are all that it uses of Markdown.
func prose(text string) template.HTML {
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		escaped := template.HTMLEscapeString(block)
		escaped = regexp.MustCompile("`([^`]+)`").ReplaceAllString(escaped, "<code>$1</code>")
		escaped = regexp.MustCompile(`\*\*([^*]+)\*\*`).ReplaceAllString(escaped, "<strong>$1</strong>")
		if items, ok := strings.CutPrefix(escaped, "- "); ok {
			out.WriteString("<ul><li>" + strings.ReplaceAll(items, "\n- ", "</li><li>") + "</li></ul>")
			continue
		}
		out.WriteString("<p>" + escaped + "</p>")
	}
	return template.HTML(out.String()) //nolint:gosec // escaped above
}
