package api_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"oprelay/api"
	"oprelay/storage"
)

var (
	anID    = regexp.MustCompile(`\b(watch|credential|destination|event|delivery|key)_[0-7][0-9a-hjkmnp-tv-z]{25}\b`)
	ofAKind = regexp.MustCompile(`^\^([a-z]+)_\[0-7\]`) // the pattern of an id
)

// anyURL lets every URL be a destination's.
type anyURL struct{}

func (anyURL) CheckURL(context.Context, string) error { return nil }

// For every operation of the document, at each place where it takes an id: what
// belongs to another tenant is answered as what does not exist, byte for byte, and
// stays as it is. An operation that is new to the document is tried without a line
// here, or fails for want of one.
func TestAnotherTenantsThingsCannotBeToldFromAbsentOnes(t *testing.T) {
	t.Parallel()
	r := newRelay(t, func(c *api.Config) { c.Egress = anyURL{} })
	for i, o := range protected(t) {
		t.Run(o.method+" "+o.path, func(t *testing.T) {
			owner, other := r.newParty(t, fmt.Sprint("owner ", i)), r.newParty(t, fmt.Sprint("other ", i))
			call := newCall(t, o)
			shared := key("used by both " + o.path)
			if o.method == http.MethodPost { // which the other must not get the answer of
				call.send(t, r, owner, shared)
			}
			before := owner.sees()
			places := call.places(t, owner)
			if len(o.params) > 0 && len(places) == 0 && o.path != "/v1/sources/{source_name}" {
				t.Error("no place of an id was found")
			}
			for _, p := range places {
				foreign := call.with(p, p.foreign).send(t, r, other)
				absent := call.with(p, p.absent).send(t, r, other)
				if foreign.status == http.StatusOK && p.in == "path" || foreign.status >= http.StatusInternalServerError {
					t.Errorf("%s: %d %s", p, foreign.status, foreign.body)
				}
				if f, a := foreign.anonymous(), absent.anonymous(); f != a {
					t.Errorf("%s: what is another's is answered\n%s\nwhat is absent\n%s", p, f, a)
				}
				for _, id := range anID.FindAllString(string(foreign.body), -1) {
					if id != p.foreign && slices.Contains(slices.Collect(maps.Values(owner.ids)), id) {
						t.Errorf("%s: the answer holds %s of the other tenant: %s", p, id, foreign.body)
					}
				}
			}
			if after := owner.sees(); after != before {
				t.Errorf("the owner's things have changed:\n%s\nbefore\n%s", after, before)
			}
			var changes []change
			if o.method == http.MethodPost {
				changes = append(changes, shared)
			}
			own := call.send(t, r, other, changes...)
			if own.status >= http.StatusBadRequest || own.header.Get("Idempotency-Replayed") != "" {
				t.Errorf("with ids of its own: %d %s; the suite has to know how to make this request", own.status, own.body)
			}
		})
	}
}

// party is a tenant with one of everything.
type party struct {
	r   *relay
	key string
	ids map[string]string // by the name of a path's parameter
}

func (r *relay) newParty(t *testing.T, name string) party {
	t.Helper()
	tenant, err := r.store.EnsureTenant(t.Context(), name)
	must(t, err)
	p := party{r: r, key: r.key(tenant, storage.ScopeAdmin)}
	p.ids = r.oneOfEach(p.key)
	p.ids["source_name"] = "cloudflare.lists"
	// And a watch of what nobody else watches.
	p.ids["operation_id"], p.ids["account_id"] = fmt.Sprintf("%032x", name), fmt.Sprintf("%032x", name+"'s")
	body := watchBody(p.ids["credential_id"], p.ids["destination_id"])
	r.made(p.key, "/v1/watches", strings.NewReplacer(operationID, p.ids["operation_id"], accountID, p.ids["account_id"]).Replace(body))
	r.expire()
	return p
}

// sees is everything that the lists show a party.
func (p party) sees() string {
	var all strings.Builder
	for _, path := range []string{"/v1/credentials", "/v1/destinations", "/v1/watches", "/v1/keys", "/v1/events", "/v1/deliveries"} {
		all.Write(p.r.do(p.key, http.MethodGet, path+"?limit=200", "").body)
	}
	return all.String()
}

// place is where a request takes an id.
type place struct {
	in, name        string
	nth             int // of the ids in the body
	foreign, absent string
}

func (p place) String() string { return fmt.Sprint(p.in, " ", p.name, p.nth) }

// call is a request that fits the document; in its path and its body stand ids
// that send replaces by those of whoever sends it.
type call struct {
	described

	body []byte
	set  *place // whose value is given
}

func newCall(t *testing.T, o described) call {
	t.Helper()
	c := call{described: o}
	if !o.body {
		return c
	}
	media := o.operation.RequestBody.Value.Content.Get("application/json")
	value := media.Example
	for _, name := range slices.Sorted(maps.Keys(media.Examples)) {
		value = media.Examples[name].Value.Value
	}
	if value == nil {
		value = exampleOf(t, media.Schema.Value)
	}
	var err error
	c.body, err = json.Marshal(value)
	must(t, err)
	if want := idsIn(media.Schema.Value); len(anID.FindAll(c.body, -1)) < want {
		t.Errorf("the body takes %d ids; its example shows fewer, so not all are tried: %s", want, c.body)
	}
	return c
}

// exampleOf is the schema's example, or one made of those of its parts.
func exampleOf(t *testing.T, s *openapi3.Schema) any {
	t.Helper()
	switch {
	case s.Example != nil:
		return s.Example
	case s.Type.Is("array"):
		return []any{exampleOf(t, s.Items.Value)}
	case s.Type.Is("object"):
		object := map[string]any{}
		for name, property := range s.Properties {
			object[name] = exampleOf(t, property.Value)
		}
		return object
	case s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	}
	t.Errorf("a request's schema without an example: %s", s.Description)
	return nil
}

// idsIn counts the places of ids in a schema.
func idsIn(s *openapi3.Schema) int {
	n := 0
	if ofAKind.MatchString(s.Pattern) {
		n++
	}
	for _, property := range s.Properties {
		n += idsIn(property.Value)
	}
	if s.Items != nil {
		n += idsIn(s.Items.Value)
	}
	return n
}

// places lists where the call takes an id, with one of the owner's for each and
// one that is nobody's.
func (c call) places(t *testing.T, owner party) []place {
	t.Helper()
	var all []place
	add := func(p place) {
		if p.foreign == "" {
			t.Fatalf("the suite makes nothing for %s", p)
		}
		if p.absent == "" {
			p.absent = neighbour(p.foreign)
		}
		all = append(all, p)
	}
	for _, name := range c.params {
		if name == "source_name" { // nobody's own
			continue
		}
		add(place{in: "path", name: name, foreign: owner.ids[name]})
	}
	for _, p := range c.operation.Parameters {
		kind := ofAKind.FindStringSubmatch(p.Value.Schema.Value.Pattern)
		switch {
		case p.Value.In != "query" || namesNothing(p.Value):
		case kind != nil:
			add(place{in: "query", name: p.Value.Name, foreign: owner.ids[kind[1]+"_id"]})
		case owner.ids[p.Value.Name] != "":
			add(place{in: "query", name: p.Value.Name, foreign: owner.ids[p.Value.Name]})
		case p.Value.Name == "cursor":
			id := owner.r.firstOf(owner.key, c.path)
			add(place{in: "query", name: "cursor", foreign: cursor(id), absent: cursor(neighbour(id))})
		default:
			t.Errorf("does ?%s name something of a tenant's? This suite has to know", p.Value.Name)
		}
	}
	for i, id := range anID.FindAllStringSubmatch(string(c.body), -1) {
		add(place{in: "body", name: id[1], nth: i, foreign: owner.ids[id[1]+"_id"]})
	}
	return all
}

// namesNothing says whether a query parameter names nothing that one tenant has and another has not. What
// metadata finds only the storage suite knows.
func namesNothing(p *openapi3.Parameter) bool {
	schema := p.Schema.Value
	if schema.Type.Is(openapi3.TypeArray) {
		schema = schema.Items.Value
	}
	return schema.Enum != nil || schema.Type.Is(openapi3.TypeBoolean) || schema.Format == "date-time" ||
		slices.Contains([]string{"limit", "wait", "source", "metadata"}, p.Name)
}

// neighbour is an id, of either kind, that is not in use: it differs in its end.
func neighbour(id string) string {
	last := "0"
	if strings.HasSuffix(id, last) {
		last = "1"
	}
	return id[:len(id)-1] + last
}

func cursor(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

// with is the call with a value at a place.
func (c call) with(p place, value string) call {
	p.foreign = value
	c.set = &p
	return c
}

func (c call) send(t *testing.T, r *relay, as party, changes ...change) reply {
	t.Helper()
	given := func(in, name string, nth int, own string) string {
		if c.set != nil && c.set.in == in && c.set.name == name && c.set.nth == nth {
			return c.set.foreign
		}
		return own
	}
	path := fill(c.described, func(name string) string { return given("path", name, 0, as.ids[name]) })
	if c.set != nil && c.set.in == "query" {
		path += "?" + url.Values{c.set.name: {c.set.foreign}}.Encode()
	}
	nth := -1
	body := anID.ReplaceAllFunc(bytes.Clone(c.body), func(id []byte) []byte {
		kind, _, _ := strings.Cut(string(id), "_")
		nth++
		return []byte(given("body", kind, nth, as.ids[kind+"_id"]))
	})
	return r.do(as.key, c.method, path, string(body), changes...)
}

// anonymous is all that an answer says but for the ids and the names in it.
func (a reply) anonymous() string {
	header := a.header.Clone()
	header.Del("Date")
	header.Del("X-Request-ID")
	text := bytes.ReplaceAll(a.body, []byte(a.header.Get("X-Request-ID")), []byte("REQUEST"))
	return anID.ReplaceAllString(fmt.Sprintln(a.status, header, string(text)), "${1}_ID")
}
