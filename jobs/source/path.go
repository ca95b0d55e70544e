package source

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// longestURL is what an operation's id may have where it is a URL, longestValue any other value.
const (
	longestURL   = 4096
	longestValue = 512
)

const operationID = "operation_id" // in a path

func placeholder() *regexp.Regexp { return regexp.MustCompile(`\{(\+?[a-z][a-z0-9_]*)\}`) }

// placeholders are the names in the braces of a path, in order.
func placeholders(path string) []string {
	var names []string
	for _, match := range placeholder().FindAllStringSubmatch(path, -1) {
		names = append(names, match[1])
	}
	return names
}

// piece is a part of a path: some text, and the name of the value that follows it, "" for none.
type piece struct{ text, name string }

// pieces takes a path apart.
func pieces(path string) []piece {
	var all []piece
	end := 0
	for _, at := range placeholder().FindAllStringSubmatchIndex(path, -1) {
		all = append(all, piece{path[end:at[0]], path[at[2]:at[3]]})
		end = at[1]
	}
	return append(all, piece{text: path[end:]})
}

// NoBase is where Check says that the source itself cannot be asked. No parameter has this name.
const NoBase = "source"

// Check says what is wrong with a watch's values, by the parameter's name, with
// "operation_id" for the id. It is empty if a request can be made of them.
func (s *Source) Check(id string, params map[string]string) map[string]string {
	if s.Upstream.Base == "" {
		return map[string]string{NoBase: "has no base URL on this relay: its operator sets RELAY_UPSTREAM_URLS"}
	}
	faults := map[string]string{}
	for _, param := range s.Params {
		value, given := params[param.Name]
		switch {
		case !given:
			faults[param.Name] = "is required by " + s.Name
		case !param.matches(value):
			faults[param.Name] = "has to match " + param.Pattern
		}
	}
	for name := range params {
		if !slices.ContainsFunc(s.Params, func(p Param) bool { return p.Name == name }) {
			faults[name] = "is no parameter of " + s.Name
		}
	}
	if fault := s.idFault(id); fault != "" {
		faults[operationID] = fault
	}
	return faults
}

// idFault says why an operation's id cannot be asked about, "" if it can.
func (s *Source) idFault(id string) string {
	switch {
	case !s.OperationID.matches(id):
		return "has to match " + s.OperationID.Pattern
	case s.Path == "":
		if _, err := sameOrigin(s.Upstream.Base, id); err != nil {
			return err.Error()
		}
	case hasDotSegment("/" + id):
		return "can have no dot segment"
	}
	return ""
}

func (p Param) matches(value string) bool {
	limit := longestValue
	if p.Name == operationID {
		limit = longestURL
	}
	return len(value) <= limit && p.matcher.MatchString(value)
}

var (
	errOtherOrigin = errors.New("has to be a URL of the upstream's own origin")
	errValues      = errors.New("the operation's id or a parameter cannot be part of a URL")
)

// URL is where to ask about an operation: always of the base's origin. Values that Check
// refuses are an error.
func (s *Source) URL(id string, params map[string]string) (*url.URL, error) {
	if len(s.Check(id, params)) > 0 {
		return nil, errValues
	}
	if s.Path == "" {
		return sameOrigin(s.Upstream.Base, id)
	}
	var path strings.Builder
	path.WriteString(s.Upstream.Base)
	for _, piece := range s.pieces {
		path.WriteString(piece.text)
		switch piece.name {
		case "":
		case operationID:
			path.WriteString(url.PathEscape(id))
		case "+" + operationID:
			path.WriteString(escapeSegments(id))
		default:
			path.WriteString(url.PathEscape(params[piece.name]))
		}
	}
	u, err := url.Parse(path.String())
	if err != nil || hasDotSegment(u.Path) {
		return nil, errValues
	}
	return u, nil
}

// sameOrigin parses a URL, which has to have the base's origin: a credential goes nowhere else.
// Scheme, host and port of the result are the base's own, however the URL writes them.
func sameOrigin(base, raw string) (*url.URL, error) {
	b, err := url.Parse(base)
	if err != nil {
		return nil, errOtherOrigin
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.User != nil || u.Fragment != "" || strings.ContainsAny(raw, `\#`) ||
		origin(u) != origin(b) || hasDotSegment(u.Path) {
		return nil, errOtherOrigin
	}
	u.Scheme, u.Host = b.Scheme, b.Host
	return u, nil
}

// origin is the scheme, the host and the port, which may be left out (RFC 6454).
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
	}
	return strings.ToLower(u.Scheme) + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

func escapeSegments(path string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		segments[i] = url.PathEscape(segment)
	}
	return strings.Join(segments, "/")
}

// hasDotSegment finds segments that no escaping keeps from naming another path.
func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}
