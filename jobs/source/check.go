package source

import (
	"net"
	"net/url"
	"regexp/syntax"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

func (p *parser) checkUpstream(n *yaml.Node, at places, u *Upstream) {
	if fault := BaseFault(u.Base); at["base"] != nil && u.Base != "" && fault != "" {
		p.addf(at["base"], "base %s", fault)
	}
	fetches := slices.Contains(u.Auth, AuthOAuth2Client) || slices.Contains(u.Auth, AuthGoogleServiceAccount)
	switch fault := BaseFault(u.TokenURL); {
	case fetches && fault != "":
		p.addf(at.of("token_url", n), "auth oauth2_client and google_service_account need a token_url, which %s", fault)
	case !fetches && at["token_url"] != nil:
		p.addf(at["token_url"], "token_url is for auth oauth2_client and google_service_account alone; remove it")
	case !fetches && at["scopes"] != nil:
		p.addf(at["scopes"], "scopes are for auth oauth2_client and google_service_account alone; remove them")
	}
}

// BaseFault says why a URL cannot be an upstream's base, "" if it can: credentials are sent
// there, so it needs TLS outside of loopback.
func BaseFault(base string) string {
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "has to be a URL such as https://api.example.com"
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(base, "?#"):
		return "can have no user, query or fragment"
	case hasDotSegment("/" + u.Path):
		return "can have no dot segment"
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return "has to begin with https://, for credentials are sent there (http:// only to this machine)"
	}
	return ""
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkPath checks that the path and the parameters agree, and what the patterns let through.
func (p *parser) checkPath(n *yaml.Node, at places, s *Source) {
	path := at.of("path", n)
	plain := placeholder().ReplaceAllString(s.Path, "x")
	if _, err := url.Parse(plain); err != nil || !strings.HasPrefix(s.Path, "/") ||
		strings.ContainsAny(plain, "?# \t\r\n\\") || hasDotSegment(s.Path) {
		p.addf(path, "path %q has to begin with / and can have no query, fragment, space or dot segment", s.Path)
	}
	if strings.ContainsAny(plain, "{}") {
		p.addf(path, "path %q has a brace that belongs to no {name}", s.Path)
	}
	used := map[string]bool{}
	for _, name := range placeholders(s.Path) {
		bare := strings.TrimPrefix(name, "+")
		used[bare] = true
		switch {
		case bare == operationID:
		case bare != name:
			p.addf(path, "path has {%s}: only {+operation_id} can have slashes; write {%s}", name, bare)
		case !slices.ContainsFunc(s.Params, func(param Param) bool { return param.Name == name }):
			p.addf(path, "path has {%s}, which is no parameter: add it to params, with its pattern", name)
		}
	}
	if !used[operationID] {
		p.addf(path, "path needs {operation_id}, or {+operation_id} for an id with slashes")
	}
	for _, param := range s.Params {
		if !used[param.Name] {
			p.addf(at.of("params", n), "the parameter %s is not in the path; use it or remove it", param.Name)
		}
		p.checkPattern(at.of("params", n), param, "/?#%\\")
	}
	dangerous := "/?#%\\"
	if strings.Contains(s.Path, "{+"+operationID+"}") {
		dangerous = "?#%\\"
	}
	p.checkPattern(at.of(operationID, n), s.OperationID, dangerous)
}

// checkExample checks that the examples of the values can be asked about.
func (p *parser) checkExample(n *yaml.Node, at places, s *Source) {
	if s.Docs != "" && !strings.HasPrefix(s.Docs, "https://") {
		p.addf(at["docs"], "docs has to be a URL that begins with https://")
	}
	if s.OperationID.Example == "" {
		if s.ID != "" {
			p.addf(at.of(operationID, n),
				"with id: the operation_id needs an example, which the examples' answers repeat: {pattern: ..., example: ...}")
		}
		return
	}
	if fault := s.idFault(s.OperationID.Example); fault != "" && s.Upstream.Base != "" {
		p.addf(at.of(operationID, n), "the example of operation_id %s", fault)
	}
}

// checkPattern refuses patterns that let through what could lead to another path.
func (p *parser) checkPattern(n *yaml.Node, param Param, dangerous string) {
	if param.matcher == nil {
		return
	}
	tree, err := syntax.Parse(param.Pattern, syntax.Perl)
	if err != nil {
		return // said already
	}
	for _, char := range dangerous {
		if lets(tree, char) {
			p.addf(n, "the pattern of %s lets %q through; write the characters that it may have, such as [A-Za-z0-9_-]{1,64}", param.Name, char)
			return
		}
	}
	for char := range rune(' ') {
		if lets(tree, char) {
			p.addf(n,
				"the pattern of %s lets control characters through; write the characters that it may have, such as [A-Za-z0-9_-]{1,64}", param.Name)
			return
		}
	}
	for _, segment := range []string{"", ".", ".."} {
		if param.matcher.MatchString(segment) {
			p.addf(n,
				"the pattern of %s matches %q, which would name another path; have it begin with a letter or a digit, say", param.Name, segment)
			return
		}
	}
}

// lets says whether the expression has a part that matches the character.
func lets(re *syntax.Regexp, char rune) bool {
	switch re.Op { //nolint:exhaustive // the others match no character by themselves
	case syntax.OpAnyChar:
		return true
	case syntax.OpAnyCharNotNL:
		return char != '\n'
	case syntax.OpLiteral:
		return slices.Contains(re.Rune, char)
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			if re.Rune[i] <= char && char <= re.Rune[i+1] {
				return true
			}
		}
	}
	return slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return lets(sub, char) })
}

func (p *parser) checkRules(n *yaml.Node, s *Source) {
	if !slices.ContainsFunc(s.Rules, func(r Rule) bool { return r.As.Terminal() }) {
		p.addf(n, "%s has no rule that ends anything: one has to say as: completed or as: failed", s.Name)
	}
	for i, later := range s.Rules {
		for _, earlier := range s.Rules[:i] {
			if len(earlier.When) > 0 && covers(earlier, later) {
				p.faultf(later.Line,
					"this rule can never match: the one at line %d matches all that it does; put it before that one, or remove it", earlier.Line)
				break
			}
		}
	}
	if fault := readerFault(s); fault != "" {
		p.addf(n, "%s", fault)
	}
}
