package source

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
	"golang.org/x/net/http/httpguts"
)

// Parse reads the definition of an upstream and its sources. file names it in faults. The
// error is Faults, which has every fault.
func Parse(file string, text []byte) (*Upstream, error) {
	p := &parser{file: file}
	root := p.document(text)
	if root == nil {
		return nil, p.faults.err()
	}
	u := p.upstream(root)
	if len(p.faults) == 0 { // else much would be said twice
		p.runExamples(u)
	}
	if err := p.faults.err(); err != nil {
		return nil, err
	}
	return u, nil
}

func (p *parser) upstream(n *yaml.Node) *Upstream {
	u := &Upstream{MaxBody: defaultMaxBody, Park: time.Minute, Headers: map[string]string{}}
	var sources *yaml.Node
	at := p.mapping(n, "an upstream", fields{
		"upstream":  func(n *yaml.Node) { u.Name = p.name(n, "an upstream") },
		"title":     p.text(&u.Title, "title"),
		"base":      p.text(&u.Base, "base"),
		"auth":      func(n *yaml.Node) { u.Auth = p.auth(n) },
		"headers":   func(n *yaml.Node) { u.Headers = p.headers(n) },
		"budget":    p.rate(&u.Budget, "budget"),
		"egress":    p.rate(&u.Egress, "egress"),
		"park":      p.duration(&u.Park, "park"),
		"quota":     func(n *yaml.Node) { u.Quota = p.quota(n) },
		"redirects": func(n *yaml.Node) { u.Redirects = p.redirects(n) },
		"max_body":  func(n *yaml.Node) { u.MaxBody = p.maxBody(n) },
		"token_url": p.text(&u.TokenURL, "token_url"),
		"scopes":    func(n *yaml.Node) { u.Scopes = p.texts(n, "scopes") },
		"message":   func(n *yaml.Node) { u.Message = p.pointers(n) },
		"rules":     func(n *yaml.Node) { u.Rules = p.rules(n) },
		"sources":   func(n *yaml.Node) { sources = n },
	}, "upstream", "title", "auth", "budget", "egress", "sources")
	u.Base = strings.TrimRight(u.Base, "/")
	p.checkUpstream(n, at, u)
	if sources != nil {
		read := p.each(sources, "sources", func(key, value *yaml.Node) { u.Sources = append(u.Sources, p.source(u, key, value)) })
		if read && len(u.Sources) == 0 {
			p.addf(sources, "an upstream needs a source: NAME: {path: ..., operation_id: ..., rules: [...]}")
		}
	}
	return u
}

// name reads what is part of a source's name, or names a parameter.
func (p *parser) name(n *yaml.Node, what string) string {
	if !regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`).MatchString(n.Value) {
		p.addf(n, "%s has a name of lower-case letters, digits and _, at most 40, and begins with a letter: not %q", what, n.Value)
	}
	return n.Value
}

func (p *parser) auth(n *yaml.Node) []Auth {
	named := []Auth{AuthBearer, AuthBasic, AuthCloudflareKey, AuthOAuth2Client, AuthGoogleServiceAccount, AuthNone}
	var all []Auth
	for _, text := range p.texts(n, "auth") {
		auth := Auth(text)
		name, header := strings.CutPrefix(text, string(AuthHeader))
		switch {
		case header && isHeaderName(name) && !isReserved(name, "authorization", "cookie"):
		case !header && slices.Contains(named, auth):
		default:
			p.addf(n, "auth %q is none; write bearer, header:NAME, basic, cloudflare_key, oauth2_client, google_service_account or none", text)
		}
		if slices.Contains(all, auth) {
			p.addf(n, "auth has %s twice; remove one", text)
		}
		all = append(all, auth)
	}
	return all
}

// isHeaderName says whether it can be the name of a header (RFC 9110, section 5.1).
func isHeaderName(name string) bool { return httpguts.ValidHeaderFieldName(name) }

// isReserved says whether a header is the relay's own to set, or the connection's, and none of
// the exceptions.
func isReserved(name string, but ...string) bool {
	reserved := []string{
		"accept-encoding", "authorization", "connection", "content-length", "content-type", "cookie", "expect", "host",
		"keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
	}
	name = strings.ToLower(name)
	return slices.Contains(reserved, name) && !slices.Contains(but, name)
}

func (p *parser) headers(n *yaml.Node) map[string]string {
	all, seen := map[string]string{}, map[string]bool{}
	p.each(n, "headers", func(key, value *yaml.Node) {
		var text string
		p.text(&text, "the header "+key.Value)(value)
		lower := strings.ToLower(key.Value)
		switch {
		case !isHeaderName(key.Value) || !httpguts.ValidHeaderFieldValue(text):
			p.addf(key, "%q: %q cannot be a header", key.Value, text)
		case isReserved(lower):
			p.addf(key, "the header %s is the relay's own to set; remove it", key.Value)
		case seen[lower]:
			p.addf(key, "headers have %s twice; remove one", key.Value)
		default:
			all[key.Value] = text
		}
		seen[lower] = true
	})
	return all
}

func (p *parser) quota(n *yaml.Node) (q Quota) {
	header := func(into *string) func(*yaml.Node) {
		return func(n *yaml.Node) {
			name, ok := strings.CutPrefix(n.Value, "header:")
			if !ok || !isHeaderName(name) {
				p.addf(n, "a quota is in a header: write header:NAME, not %q", n.Value)
			}
			*into = name
		}
	}
	at := p.mapping(n, "quota", fields{
		"remaining": header(&q.Remaining), "reset_epoch": header(&q.ResetEpoch),
		"reset_seconds": header(&q.ResetSeconds), "ietf": header(&q.IETF),
	})
	switch {
	case len(at) > 0 && (at["remaining"] == nil) == (at["ietf"] == nil):
		p.addf(n, "quota needs either remaining: header:NAME (with reset_epoch or reset_seconds) or ietf: header:NAME")
	case at["ietf"] != nil && len(at) > 1, at["reset_epoch"] != nil && at["reset_seconds"] != nil:
		p.addf(n, "quota says in two ways when it starts anew; ietf: needs nothing beside it, remaining: one of reset_epoch and reset_seconds")
	}
	return q
}

func (p *parser) redirects(n *yaml.Node) bool {
	if n.Value != "same_origin" {
		p.addf(n, "redirects can only be same_origin; without this key none is followed")
	}
	return true
}

func (p *parser) maxBody(n *yaml.Node) int {
	size, err := strconv.Atoi(n.Value)
	if err != nil || size < 1<<10 || size > mostMaxBody {
		p.addf(n, "max_body has to be a number of bytes from 1024 to %d", mostMaxBody)
	}
	return size
}
