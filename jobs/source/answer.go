package source

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	defaultMaxBody  = 64 << 10
	mostMaxBody     = 1 << 20
	maxStatusBytes  = 100
	maxErrorBytes   = 4 << 10
	maxProblemBytes = 300
)

// Response is what came back over HTTP.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Answer is what one poll found out. It never holds a secret.
type Answer struct {
	Verdict Verdict
	// Rule is the number of the source's rule that matched, from 0; -1 if none did.
	Rule int
	// UpstreamStatus is the upstream's own word for the operation's status, "" if it gave none.
	UpstreamStatus string
	// Error is the upstream's message for a failed operation, "" if it gave none: valid UTF-8
	// without NUL, at most 4 KiB.
	Error string
	// CompletedAt is when a terminal operation ended by the upstream's account, in UTC; zero
	// if absent or unreadable, which makes it no less terminal.
	CompletedAt time.Time

	// Problem is one line for people, where Verdict is not of the operation itself.
	Problem string
	// Detail is Go's own words for why there was no whole answer, if so. They name addresses
	// within the relay's network: for its operator's log alone.
	Detail string
	// RetryAfter is the upstream's wish, at most a day; 0 if it has none. It can come with any
	// HTTP status.
	RetryAfter time.Duration
	// Left is what the upstream says is left of the credential's budget; nil if it does not
	// say. A hint: the header is often missing or constant.
	Left *Left
	// HTTPStatus is 0 if there was no answer.
	HTTPStatus int
	// Requests is how many were sent: more than one where a redirect was followed, none
	// without a usable credential, id or parameter.
	Requests int
}

// Read says what an answer means for the operation. It is pure.
func (s *Source) Read(id string, r Response) Answer {
	scan := s.reader.read(r.Body)
	defer s.reader.release(scan)
	word, given := scan.first(s.reader.status)
	a := Answer{HTTPStatus: r.Status}
	if a.Rule = s.match(scan, r); a.Rule >= 0 {
		a.Verdict = s.Rules[a.Rule].As
	} else {
		a.Verdict = s.fallback(r.Status, !given && scan.json && scan.object)
	}
	same := s.same(scan, id)
	if a.Verdict.Known() && !same {
		a.Verdict, a.Problem = Inconclusive, "the answer is about another operation, or about none"
		return a
	}
	if same && r.Status < http.StatusMultipleChoices { // what an error calls a status is another
		a.UpstreamStatus = word
	}
	switch {
	case a.Verdict.Terminal():
		at, _ := scan.first(s.reader.completed)
		a.CompletedAt = parseTime(at)
		if a.Verdict == Failed {
			a.Error, _ = scan.first(s.reader.errors)
		}
	case !a.Verdict.Known():
		a.Problem = s.problem(scan, r, word)
	}
	return a
}

// fallback is the verdict where no rule matches. absent says that the body is an object without
// a status.
func (s *Source) fallback(status int, absent bool) Verdict {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return Refused
	case http.StatusNotFound, http.StatusGone:
		return NotFound
	case http.StatusTooManyRequests:
		return Limited
	case http.StatusOK:
		if absent && s.Absent != "" {
			return s.Absent
		}
	}
	return Inconclusive
}

// same says whether the answer is about the operation, where it says which.
func (s *Source) same(scan *scan, id string) bool {
	if s.ID == "" || !scan.json {
		return true
	}
	return scan.holds(s.reader.id, id)
}

// problem says in a line why the answer says nothing of the operation.
func (s *Source) problem(scan *scan, r Response, word string) string {
	said := scan.all(s.reader.message)
	http := "HTTP " + strconv.Itoa(r.Status)
	switch {
	case r.Status >= 300 && r.Status < 400:
		return http + ", a redirect that is not followed"
	case said != "":
		return http + ": " + said
	case !scan.json:
		return http + ", " + describe(r.Body)
	case r.Status != 200:
		return http
	case word == "":
		return http + ", the status is missing"
	}
	return fmt.Sprintf("%s, no rule says what the status %q is", http, word)
}

// describe names a body that is not JSON.
func describe(body []byte) string {
	start := strings.ToLower(strings.TrimLeft(string(body[:min(len(body), 64)]), "\ufeff \t\r\n"))
	switch {
	case start == "":
		return "empty body"
	case strings.HasPrefix(start, "<!doctype"), strings.HasPrefix(start, "<html"):
		return "HTML body"
	case strings.HasPrefix(start, "{"), strings.HasPrefix(start, "["):
		return "malformed JSON body"
	}
	return "the body is no JSON"
}

// parseTime reads an RFC 3339 time, or Unix seconds or milliseconds. It is zero for anything
// else, and for what JSON and SQL cannot hold.
func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		seconds, err := strconv.ParseFloat(text, 64)
		const millisecondsFrom = 1e11 // the year 5138 in seconds, 1973 in milliseconds
		if seconds >= millisecondsFrom {
			seconds /= 1000
		}
		if err != nil || math.IsNaN(seconds) || seconds <= 0 || seconds > 253402300799 {
			return time.Time{}
		}
		t = time.UnixMicro(int64(seconds * 1e6))
	}
	if t = t.UTC(); t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// clear makes what the upstream wrote fit to store and to send on. The secrets go before the
// cut, which may leave half of one, and after what text drops, which may stand in the middle
// of one.
func (a Answer) clear(redact func(string) string) Answer {
	a.Problem = line(redact(text(a.Problem)), maxProblemBytes)
	a.Detail = line(redact(a.Detail), maxProblemBytes)
	a.UpstreamStatus = line(redact(text(a.UpstreamStatus)), maxStatusBytes)
	a.Error = cut(redact(text(a.Error)), maxErrorBytes)
	return a
}

// line makes one line of at most limit bytes out of anything.
func line(s string, limit int) string {
	return cut(strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r)
	}), " "), limit)
}

// text makes what databases and JSON can hold out of anything.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// cut shortens s to at most limit bytes without splitting a rune.
func cut(s string, limit int) string {
	const ellipsis = "…"
	if len(s) <= limit {
		return s
	}
	end := limit - len(ellipsis)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}
