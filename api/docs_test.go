package api_test

import (
	"fmt"
	"html"
	"net/http"
	"strings"
	"testing"
)

// The page shows what a newcomer needs of each operation, in an order to be read in.
func TestDocsShowEveryOperation(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	page := string(r.do("", http.MethodGet, "/docs", "").body)
	article := func(id string) string {
		_, from, found := strings.Cut(page, fmt.Sprintf("<article id=%q>", id))
		if !found {
			t.Errorf("there is no %s", id)
		}
		text, _, _ := strings.Cut(from, "</article>")
		return html.UnescapeString(text)
	}
	for _, o := range protected(t) {
		text := article(o.operation.OperationID)
		if o.body && !strings.Contains(text, "-d '{") {
			t.Errorf("%s has no example of its body", o.operation.OperationID)
		}
		if _, answer, _ := strings.Cut(text, "<h4>20"); !strings.Contains(answer, "<pre") && o.operation.Responses.Value("204") == nil {
			t.Errorf("%s has no example of its answer", o.operation.OperationID)
		}
		for _, answer := range o.operation.Responses.Map() {
			for name := range answer.Value.Headers {
				if !strings.Contains(text, "<code>"+name+"</code>") {
					t.Errorf("%s does not name the header %s", o.operation.OperationID, name)
				}
			}
		}
	}
	last := 0
	for _, id := range []string{
		"createCredential", "createDestination", "createWatch", "getWatch", "createWatches", "webhooks", "listEvents",
		"listDeliveries", "redeliver", "createKey", "schemas", "schema-Watch", "problems",
	} {
		at := strings.Index(page, fmt.Sprintf("id=%q", id))
		if at < last {
			t.Errorf("%s comes at %d, before what a newcomer needs first", id, at)
		}
		last = at
	}
	for _, field := range []string{"A new destination has 0 if not told", "A new destination has 20 if not told"} {
		if !strings.Contains(article("schema-NewDestination"), field) {
			t.Errorf("the fields of a new destination do not say: %s", field)
		}
	}
	if !strings.Contains(article("schema-Destination"), "gone | failing | rejected | by_user | null<") || strings.Contains(html.UnescapeString(page), "<nil>") {
		t.Error("what may be null is not shown as null, once")
	}
	if !strings.Contains(page, "flex-wrap: wrap") {
		t.Error("the navigation is one line, which no phone has room for")
	}
}

// An answer's example does not contradict its text.
func TestDocsAnswersAgree(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	page := string(r.do("", http.MethodGet, "/docs", "").body)
	answer := func(id string) string {
		_, article, _ := strings.Cut(page, fmt.Sprintf("<article id=%q>", id))
		article, _, _ = strings.Cut(article, "</article>")
		_, text, _ := strings.Cut(html.UnescapeString(article), "<h4>20")
		return text
	}
	for id, fields := range map[string]map[string]bool{
		"createDestination":  {`"secret": "whsec_`: true, `"waiting"`: false},
		"rotateSecret":       {`"secret": "whsec_`: true},
		"listDestinations":   {`"secret"`: false, `"waiting"`: false},
		"getDestination":     {`"secret"`: false, `"waiting": 3`: true},
		"updateDestination":  {`"secret"`: false},
		"disableDestination": {`"secret"`: false, `"status": "disabled"`: true},
		"listDeliveries":     {`"attempts":`: false},
		"getDelivery":        {`"attempts":`: true},
		"getSource":          {`"name": "cloudflare.lists"`: true},
		"listSources":        {`"name": "cloudflare.lists"`: true, `"name": "github.run"`: true},
		"listCredentials":    {`"budget"`: false},
		"getCredential":      {`"budget"`: true},
	} {
		text := answer(id)
		for field, shown := range fields {
			if strings.Contains(text, field) != shown {
				t.Errorf("%s: it shows %s: %t, want %t", id, field, !shown, shown)
			}
		}
	}
	if _, article, _ := strings.Cut(page, `<article id="createCredential">`); !strings.Contains(html.UnescapeString(article), `"upstream": "github"`) {
		t.Error("no example of a credential for another upstream than Cloudflare")
	}
}
