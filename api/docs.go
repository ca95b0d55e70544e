package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"strings"
)

var (
	//go:embed docs.html
	docsTemplate string
	//go:embed docs.css
	docsStyle string
)

// docsPage is GET /docs: rendered once, when somebody asks for it, without scripts or anything
// from elsewhere, so that it works without a network and under a strict policy.
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
	docsProblem struct {
		Slug, Title, Detail string
		Status              int
	}
)

func renderDocs(d *document) (docsPage, error) {
	m := newMarkup()
	page, err := template.New("docs").Funcs(template.FuncMap{"prose": m.prose, "links": m.links}).Parse(docsTemplate)
	if err != nil {
		return docsPage{}, fmt.Errorf("api: read docs.html: %w", err)
	}
	webhook, err := docsWebhookOf(d.spec)
	if err != nil {
		return docsPage{}, err
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
		"Webhook":  webhook,
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

// docsSections are the tags, and in each its operations, in the document's own order.
func docsSections(d *document) []docsSection {
	place := func(o docsOperation) int {
		return bytes.Index(documentSource, []byte("\n      operationId: "+o.ID+"\n"))
	}
	var sections []docsSection
	for _, tag := range d.spec.Tags {
		section := docsSection{Name: tag.Name, Description: tag.Description}
		for _, o := range d.operations {
			if o.route.Operation.Tags[0] == tag.Name {
				section.Operations = append(section.Operations, docsOperationOf(o))
			}
		}
		slices.SortFunc(section.Operations, func(a, b docsOperation) int { return place(a) - place(b) })
		sections = append(sections, section)
	}
	return sections
}

// markup is what is found in the document's texts.
type markup struct{ schema, code, strong, link *regexp.Regexp }

func newMarkup() markup {
	return markup{
		schema: regexp.MustCompile(`\b[A-Z]\w+`),
		code:   regexp.MustCompile("`([^`]+)`"),
		strong: regexp.MustCompile(`\*\*([^*]+)\*\*`),
		link:   regexp.MustCompile(`\[([^\]]+)\]\((https://[^\s)]+)\)`),
	}
}

// links has each name of a schema in a type lead to it: only these begin with a capital letter.
func (m markup) links(typeName string) template.HTML {
	escaped := template.HTMLEscapeString(typeName)
	linked := m.schema.ReplaceAllString(escaped, `<a href="#schema-$0">$0</a>`)
	return template.HTML(linked) //nolint:gosec // escaped above
}

// prose turns the document's text into HTML: paragraphs, lists, links, `code` and
// **strong** are all that it uses of Markdown.
func (m markup) prose(text string) template.HTML {
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		escaped := template.HTMLEscapeString(block)
		escaped = m.code.ReplaceAllString(escaped, "<code>$1</code>")
		escaped = m.strong.ReplaceAllString(escaped, "<strong>$1</strong>")
		escaped = m.link.ReplaceAllString(escaped, `<a href="$2">$1</a>`)
		if items, ok := strings.CutPrefix(escaped, "- "); ok {
			out.WriteString("<ul><li>" + strings.ReplaceAll(items, "\n- ", "</li><li>") + "</li></ul>")
			continue
		}
		out.WriteString("<p>" + escaped + "</p>")
	}
	return template.HTML(out.String()) //nolint:gosec // escaped above
}
