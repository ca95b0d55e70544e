package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// hunt looks for secrets in everything that a relay leaves behind.
type hunt struct {
	t *testing.T

	mu      sync.Mutex
	secrets []hidden
	traces  []trace
}

// hidden is a secret that must be nowhere, but for where it may be.
type hidden struct {
	name  string
	forms map[string][]byte // by what the form is called
	may   func(where string) bool
	times int // in how many traces at most; 0 for any number
}

// trace is something that was left behind.
type trace struct {
	where string
	data  []byte
}

// invent makes a secret that is nowhere to be seen.
func (h *hunt) invent(name string) string {
	h.t.Helper()
	return h.inventSeen(name, nowhere)
}

// inventSeen makes a secret that may be seen in some places.
func (h *hunt) inventSeen(name string, may func(where string) bool) string {
	h.t.Helper()
	value := rand.Text()
	h.addSeen(name, value, 0, may)
	return value
}

// addSeen hunts for a secret that may be seen in some places, so often.
func (h *hunt) addSeen(name, value string, times int, may func(where string) bool) {
	h.t.Helper()
	if len(value) < 12 {
		h.t.Fatalf("%s is too short to be hunted for", name)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.secrets = append(h.secrets, hidden{name, formsOf(value), may, times})
}

// addKey hunts for a key in base64, and for its bytes.
func (h *hunt) addKey(name, encoded string) {
	h.t.Helper()
	h.addSeenKey(name, encoded, 0, nowhere)
}

// addSeenKey hunts for one that may be seen in some places, so often.
func (h *hunt) addSeenKey(name, encoded string, times int, may func(where string) bool) {
	h.t.Helper()
	h.addSeen(name, strings.TrimRight(encoded, "="), times, may)
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		h.t.Fatal(err)
	}
	h.addSeen(name+", its bytes", string(raw), times, may)
}

func nowhere(string) bool { return false }

// only is for a secret that may be seen in one place.
func only(place string) func(string) bool {
	return func(where string) bool { return where == place }
}

// keep has a trace searched in the end. Bytes that are written in hexadecimal, as
// in PostgreSQL's dumps, are searched in themselves too.
func (h *hunt) keep(where string, data []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.traces = append(h.traces, trace{where, bytes.Clone(data)})
	for _, digits := range regexp.MustCompile(`\\x((?:[0-9a-f]{2})+)`).FindAllSubmatch(data, -1) {
		raw := make([]byte, hex.DecodedLen(len(digits[1])))
		if _, err := hex.Decode(raw, digits[1]); err == nil {
			h.traces = append(h.traces, trace{where, raw})
		}
	}
}

// keepValue keeps a value of Redis.
func (h *hunt) keepValue(where string, value any) {
	h.keep(where, fmt.Appendf(nil, "%s %v", where, value))
}

func (h *hunt) size() (n int) {
	for _, trace := range h.traces {
		n += len(trace.data)
	}
	return n
}

// found is every secret that is where it must not be, with the first such trace.
func (h *hunt) found() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, s := range h.secrets {
		seen := 0
		for _, trace := range h.traces {
			form, at := s.in(trace.data)
			if form == "" {
				continue
			}
			if seen++; s.may(trace.where) && (s.times == 0 || seen <= s.times) {
				continue
			}
			all = append(all, fmt.Sprintf("%s, %s, is in %s: %.300q", s.name, form, trace.where, trace.data[max(0, at-150):]))
			break
		}
	}
	return all
}

// in is the form in which the secret is in the data, and where; "" if it is not.
func (s hidden) in(data []byte) (form string, at int) {
	for name, form := range s.forms {
		if at := bytes.Index(data, form); at >= 0 {
			return name, at
		}
	}
	return "", -1
}

// formsOf is how a text may be written down.
func formsOf(value string) map[string][]byte {
	digits := hex.EncodeToString([]byte(value))
	percent := regexp.MustCompile(`..`).ReplaceAllString(digits, "%$0")
	quoted, _ := json.Marshal(value)
	forms := map[string]string{
		"as it is": value, "in JSON": string(quoted[1 : len(quoted)-1]), "in Go": strings.Trim(fmt.Sprintf("%q", value), `"`),
		"in a query": url.QueryEscape(value), "in a path": url.PathEscape(value),
		"in hexadecimal": digits, "in HEXADECIMAL": strings.ToUpper(digits),
		"percent-encoded": percent, "PERCENT-encoded": strings.ToUpper(percent),
		"in lower case": strings.ToLower(value), "backwards": reversed(value),
	}
	for shift := range 3 {
		// Inside of a longer text in base64: of its own are the digits that hold none
		// of the bits around it.
		around := append(make([]byte, shift), value...)
		encoded := base64.RawStdEncoding.EncodeToString(around)
		own := encoded[(shift*8+5)/6 : len(around)*8/6]
		forms[fmt.Sprintf("in base64, shifted by %d", shift)] = own
		forms[fmt.Sprintf("in URL base64, shifted by %d", shift)] = strings.NewReplacer("+", "-", "/", "_").Replace(own)
	}
	all := make(map[string][]byte, len(forms))
	for name, form := range forms {
		all[name] = []byte(form)
	}
	return all
}

func reversed(value string) string {
	var b strings.Builder
	for i := range len(value) {
		b.WriteByte(value[len(value)-1-i])
	}
	return b.String()
}

// A hunt that finds nothing would be no proof: it finds each form, and knows where
// a secret may be.
func TestHunt(t *testing.T) {
	t.Parallel()
	const value = `se+cr/et"<&>-marker`
	for name, left := range map[string]string{
		"plain":           "x" + value + "y",
		"JSON":            `{"a":"se+cr/et\"<&>-marker"}`,
		"JSON for HTML":   `{"a":"se+cr/et\"\u003c\u0026\u003e-marker"}`,
		"hexadecimal":     hex.EncodeToString([]byte("x" + value)),
		"bytea":           `\x` + hex.EncodeToString([]byte("xy"+base64.StdEncoding.EncodeToString([]byte("x"+value)))),
		"percent-encoded": "%73%65%2b%63%72%2f%65%74%22%3c%26%3e%2d%6d%61%72%6b%65%72",
		"a query":         "?a=" + url.QueryEscape(value),
		"a path":          "/" + url.PathEscape(value),
		"base64, 0":       base64.StdEncoding.EncodeToString([]byte(value + "tail")),
		"base64, 1":       base64.StdEncoding.EncodeToString([]byte("x" + value + "tail")),
		"base64, 2":       base64.URLEncoding.EncodeToString([]byte("xx" + value)),
		"basic":           base64.StdEncoding.EncodeToString([]byte("user:" + value)),
	} {
		h := &hunt{t: t}
		h.addSeen("it", value, 0, nowhere)
		h.keep("here", []byte("nothing"))
		if found := h.found(); len(found) > 0 {
			t.Errorf("%s: found in nothing: %s", name, found)
		}
		h.keep("here", []byte(left))
		if len(h.found()) == 0 {
			t.Errorf("%s: not found in %s", name, left)
		}
	}
	h := &hunt{t: t}
	h.addSeen("it", value, 1, func(where string) bool { return where == "the answer" })
	h.keep("the answer", []byte(value))
	if found := h.found(); len(found) > 0 {
		t.Errorf("found where it may be: %s", found)
	}
	h.keep("the answer", []byte(value))
	if found := h.found(); len(found) != 1 {
		t.Errorf("shown twice: %s", found)
	}
}
