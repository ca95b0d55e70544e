package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sound is a definition to which each test does one thing wrong.
const sound = `upstream: acme
title: Acme
base: https://acme.example/v1
auth: [bearer]
budget: 60/1m
egress: 10/1s
sources:
  job:
    title: Job
    path: /{team}/jobs/{operation_id}
    params: {team: '[a-z]{1,20}'}
    operation_id: '[a-z0-9]{1,20}'
    status: /state
    rules:
      - {when: {/state: done}, as: completed}
      - {when: {/state: [busy, slow]}, as: running}
    examples:
      - {body: {state: done}, as: completed}
`

// Each fault is told with its line and with what to write instead.
func TestWrongDefinitions(t *testing.T) {
	t.Parallel()
	if _, err := Parse("acme.yaml", []byte(sound)); err != nil {
		t.Fatal(err)
	}
	const ruleLine, done = 15, "{when: {/state: done}, as: completed}"
	for _, test := range []struct {
		name, old, replacement string
		line                   int
		says                   []string
	}{
		{"not YAML", "auth: [bearer]", "auth: [bearer", 5, []string{"not YAML"}},
		{"a tab", "title: Acme", "\ttitle: Acme", 2, []string{"not YAML"}},
		{"a list", "upstream: acme", "- upstream: acme", 2, []string{"not YAML"}},
		{"two documents", "sources:", "---\nsources:", 7, []string{"put what follows --- into a file of its own"}},
		{"an alias", "title: Acme", "title: &t Acme\nmessage: *t", 3, []string{"*t", "write the value out"}},
		{"an unknown key", "budget:", "bugdet:", 5, []string{`no key "bugdet"`, "budget"}},
		{"a missing key", "budget: 60/1m\n", "", 1, []string{"needs the key budget"}},
		{"an unknown key of a source", "status: /state", "status: /state\n    id_at: /id", 14, []string{`no key "id_at"`, "operation_id"}},
		{"a key twice", "title: Acme", "title: Acme\ntitle: Acne", 3, []string{`"title" twice`, "remove one"}},
		{"a key twice within", "title: Job", "title: Job\n    title: Jab", 10, []string{`"title" twice`}},
		{"a name with a hyphen", "upstream: acme", "upstream: ac-me", 1, []string{"lower-case letters"}},
		{"a source's name with a dot", "  job:", "  job.x:", 8, []string{"lower-case letters"}},
		{"a title that is a list", "title: Acme", "title: [Acme]", 2, []string{"title has to be a text"}},
		{"a title that is null", "title: Acme", "title:", 2, []string{"title has to be a text"}},
		{"sources that are a list", "  job:\n    title: Job", "  - title: Job", 8, []string{"mapping"}},
		{"a base without TLS", "https://acme", "http://acme", 3, []string{"https://", "only to this machine"}},
		{"a base with a query", "/v1", "/v1?key=1", 3, []string{"no user, query or fragment"}},
		{"a base with a user", "https://acme", "https://me@acme", 3, []string{"no user"}},
		{"a base without a host", "https://acme.example/v1", "acme.example", 3, []string{"has to be a URL such as https://"}},
		{"an unknown auth", "[bearer]", "[bearer, token]", 4, []string{`auth "token"`, "bearer, header:NAME"}},
		{"an auth of no header", "[bearer]", "header:X Key", 4, []string{"header:NAME"}},
		{"an auth of the connection's header", "[bearer]", "header:Host", 4, []string{"header:NAME"}},
		{"an auth twice", "[bearer]", "[bearer, bearer]", 4, []string{"twice"}},
		{"no token URL", "[bearer]", "oauth2_client", 1, []string{"token_url", "https://"}},
		{"a token URL without TLS", "[bearer]", "oauth2_client\ntoken_url: http://acme.example", 5, []string{"https://"}},
		{"a token URL for nothing", "[bearer]", "bearer\ntoken_url: https://acme.example", 5, []string{"remove it"}},
		{"scopes for nothing", "[bearer]", "bearer\nscopes: a", 5, []string{"remove them"}},
		{"a header of the relay's", "[bearer]", "bearer\nheaders: {Authorization: x}", 5, []string{"remove it"}},
		{"a header that undoes decompression", "[bearer]", "bearer\nheaders: {accept-encoding: br}", 5, []string{"remove it"}},
		{"a header with a line break", "[bearer]", "bearer\nheaders: {X-A: \"a\\r\\nb\"}", 5, []string{"cannot be a header"}},
		{"a header in two spellings", "[bearer]", "bearer\nheaders: {X-A: a, x-a: b}", 5, []string{"twice"}},
		{"headers that are a list", "[bearer]", "bearer\nheaders: [a]", 5, []string{"mapping"}},
		{"a budget without a period", "60/1m", "60", 5, []string{"120/5m"}},
		{"a budget of nothing", "60/1m", "0/1m", 5, []string{"120/5m"}},
		{"a budget by the millisecond", "60/1m", "60/1ms", 5, []string{"120/5m"}},
		{"a budget beyond counting", "60/1m", "99999999999999999999/1m", 5, []string{"120/5m"}},
		{"a budget that is a list", "60/1m", "[60, 1m]", 5, []string{"120/5m"}},
		{"a park without a unit", "egress:", "park: 5\negress:", 6, []string{"30s or 5m"}},
		{"a park of days", "egress:", "park: 48h\negress:", 6, []string{"at most 24h"}},
		{"a quota in a body", "egress:", "quota: {remaining: /left}\negress:", 6, []string{"header:NAME"}},
		{"a quota without what is left", "egress:", "quota: {reset_epoch: header:X}\negress:", 6, []string{"remaining: header:NAME"}},
		{"a quota in two ways", "egress:", "quota: {ietf: header:X, remaining: header:Y}\negress:", 6, []string{"either"}},
		{"redirects to anywhere", "egress:", "redirects: all\negress:", 6, []string{"same_origin"}},
		{"a body of gigabytes", "egress:", "max_body: 9999999999\negress:", 6, []string{"1024 to 1048576"}},
		{"neither path nor URL", "    path: /{team}/jobs/{operation_id}\n", "", 9, []string{"path: /...", "from: url"}},
		{"path and URL", "    title: Job", "    title: Job\n    from: url", 9, []string{"either"}},
		{"from elsewhere", "    title: Job", "    title: Job\n    from: header", 10, []string{"url"}},
		{"a path without a slash", "/{team}/jobs", "jobs/{team}", 10, []string{"begin with /"}},
		{"a path with a query", "{operation_id}\n", "{operation_id}?a=b\n", 10, []string{"no query"}},
		{"a path that goes up", "/jobs/", "/../jobs/", 10, []string{"dot segment"}},
		{"a path that is not escaped well", "/jobs/", "/jobs%zz/", 10, []string{"path"}},
		{"a parameter that is none", "/jobs/", "/{kind}/", 10, []string{"{kind}", "add it to params"}},
		{"a parameter with slashes", "{team}", "{+team}", 10, []string{"only {+operation_id}", "write {team}"}},
		{"a brace too many", "/jobs/", "/jobs{/", 10, []string{"brace"}},
		{"no operation", "/{operation_id}\n", "\n", 10, []string{"{operation_id}"}},
		{"a parameter not in the path", "params: {", "params: {kind: '[a-z]+', ", 11, []string{"kind is not in the path"}},
		{"the id as a parameter", "params: {", "params: {operation_id: '[a-z]+', ", 11, []string{"key of the source"}},
		{"params that are a list", "params: {team: '[a-z]{1,20}'}", "params: [team]", 11, []string{"mapping"}},
		{"a pattern that does not compile", "'[a-z]{1,20}'", "'[a-z'", 11, []string{"no regular expression"}},
		{"a pattern that closes ours", "'[a-z]{1,20}'", "'a)|(.*'", 11, []string{"no regular expression"}},
		{"a pattern with slashes", "'[a-z]{1,20}'", "'[a-z/]+'", 11, []string{`'/'`, "[A-Za-z0-9_-]"}},
		{"a pattern of anything", "'[a-z]{1,20}'", "'.+'", 11, []string{`'/'`}},
		{"a pattern of all but slashes", "'[a-z]{1,20}'", "'[^/]+'", 11, []string{`'?'`}},
		{"a pattern with escapes", "'[a-z]{1,20}'", "'[a-z%]+'", 11, []string{`'%'`}},
		{"a pattern with a backslash", "'[a-z]{1,20}'", `'[a-z\\]+'`, 11, []string{`'\\'`}},
		{"a pattern with line breaks", "'[a-z]{1,20}'", `'[^/?#%\\]+'`, 11, []string{"control characters"}},
		{"a pattern of two dots", "'[a-z]{1,20}'", `'[a-z.]{1,9}'`, 11, []string{`"."`, "begin with a letter"}},
		{"a pattern of nothing", "'[a-z]{1,20}'", `'[a-z]*'`, 11, []string{`""`}},
		{"an example beside the pattern", "'[a-z0-9]{1,20}'", "{pattern: '[a-z]+', example: A}", 12, []string{"does not match its pattern"}},
		{"an example without a pattern", "'[a-z0-9]{1,20}'", "{patern: '[a-z]+', example: a}", 12, []string{"needs the key pattern"}},
		{"an id without an example", "status: /state", "status: /state\n    id: /id", 12, []string{"example: ..."}},
		{"docs that run", "title: Job", "title: Job\n    docs: javascript:alert(1)", 10, []string{"https://"}},
		{"a pointer without a slash", "status: /state", "status: state", 13, []string{"begin with /"}},
		{"a pointer with a tilde", "status: /state", "status: /a~b", 13, []string{"~0"}},
		{"a pointer that is a mapping", "status: /state", "status: {a: b}", 13, []string{"no JSON pointer"}},
		{"no pointers", "status: /state", "status: []", 13, []string{"JSON pointer"}},
		{"an absent end", "status: /state", "status: /state\n    absent: completed", 14, []string{"pending, running"}},
		{"an unknown verdict", "as: completed}\n      - {when", "as: done}\n      - {when", ruleLine, []string{`"done"`, "completed, failed"}},
		{"a rule without a verdict", done, "{when: {/state: done}}", ruleLine, []string{"needs the key as"}},
		{"a rule without a condition", done, "{when: {}, as: completed}", ruleLine, []string{"needs a condition"}},
		{"a rule that is a text", "- " + done, "- done", ruleLine, []string{"mapping"}},
		{"a condition on nothing", done, "{when: {state: done}, as: completed}", ruleLine, []string{"/status, http, or header:NAME"}},
		{"a condition on null", done, "{when: {/state: null}, as: completed}", ruleLine, []string{"counts as absent"}},
		{"a condition on a mapping", done, "{when: {/state: {a: b}}, as: completed}", ruleLine, []string{`"*"`}},
		{"a condition on an empty list", done, "{when: {/state: []}, as: completed}", ruleLine, []string{`"*"`}},
		{"a status that is none", done, "{when: {http: 2000}, as: completed}", ruleLine, []string{"403, 4xx"}},
		{"a class that is none", done, "{when: {http: 6xx}, as: completed}", ruleLine, []string{"403, 4xx"}},
		{"nothing that ends", done, "{when: {/state: done}, as: running}", ruleLine, []string{"no rule that ends anything"}},
		{"rules that are a mapping", "      - " + done + "\n      - {when: {/state: [busy, slow]}, as: running}", "      done: completed", ruleLine, []string{"list of {when"}},
		{"a rule that can never match", "as: running}", "as: running}\n      - {when: {/state: busy, http: 200}, as: failed}", 17, []string{"line 16", "before that one"}},
		{"a rule behind its class", "      - " + done, "      - {when: {http: 4xx}, as: inconclusive}\n      - {when: {http: [404, 410]}, as: not_found}\n      - " + done, 16, []string{"line 15"}},
		{"an element and an index", done, "{when: {/a/*/b: x, /a/0/b: y}, as: completed}", ruleLine, []string{"write * in all"}},
		{"an example that ends otherwise", "{body: {state: done}, as: completed}", "{body: {state: busy}, as: completed}", 18, []string{"acme.job is running, not completed", "line 16 matched"}},
		{"an example that no rule knows", "{body: {state: done}, as: completed}", "{body: {state: odd}, as: completed}", 18, []string{"no rule matched", `"odd"`}},
		{"an example with another status", "as: completed}\n", "as: completed, status: gone}\n", 15, []string{"no key"}},
		{"an example with another error", "{state: done}, as: completed}\n", "{state: done}, as: completed, error: x}\n", 18, []string{`has the error "", not "x"`}},
		{"an example with another time", "{state: done}, as: completed}\n", "{state: done}, as: completed, completed_at: 2026-01-02T03:04:05Z}\n", 18, []string{"was completed at"}},
		{"an example with no time", "{state: done}, as: completed}\n", "{state: done}, as: completed, completed_at: today}\n", 18, []string{"RFC 3339"}},
		{"an example with no JSON", "{body: {state: done}", "{body: {state: .nan}", 18, []string{"cannot be written as JSON"}},
		{"no examples", "\n      - {body: {state: done}, as: completed}", " []", 17, []string{"list of {http"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wrong := strings.Replace(sound, test.old, test.replacement, 1)
			if wrong == sound {
				t.Fatalf("%q is not in the definition", test.old)
			}
			u, err := Parse("acme.yaml", []byte(wrong))
			var faults Faults
			if u != nil || !errors.As(err, &faults) {
				t.Fatalf("got %v, %v", u, err)
			}
			for _, fault := range faults {
				if strings.HasPrefix(fault.Error(), fmt.Sprintf("acme.yaml:%d: ", test.line)) && containsAll(fault.Text, test.says) {
					return
				}
			}
			t.Errorf("no fault at line %d says %q:\n%v", test.line, test.says, err)
		})
	}
}

func containsAll(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// All that is wrong is told at once, in the order of the lines, each once.
func TestEveryFaultAtOnce(t *testing.T) {
	t.Parallel()
	wrong := strings.NewReplacer("60/1m", "often", "[bearer]", "[token]\nrules: [{when: {http: 5xx}, as: inconclusive}, {when: {http: 503}, as: limited}]",
		"/jobs/", "/{kind}/", "status: /state", "status: state", "  examples:", "  example:",
		"  job:", "  other: {title: Other, path: '/{operation_id}', operation_id: '[a-z]+', status: /s, rules: [{when: {/s: a}, as: failed}], examples: [{body: {s: a}, as: failed}]}\n  job:",
	).Replace(sound)
	_, err := Parse("acme.yaml", []byte(wrong))
	var lines []string
	for line := range strings.Lines(fmt.Sprint(err)) {
		place, _, _ := strings.Cut(line, ": ")
		lines = append(lines, place)
	}
	want := "acme.yaml:4 acme.yaml:5 acme.yaml:6 acme.yaml:11 acme.yaml:12 acme.yaml:15 acme.yaml:19"
	if got := strings.Join(lines, " "); got != want {
		t.Errorf("got %s, want %s:\n%v", got, want, err)
	}
}

// Definitions of the operator replace built-in ones; two of one name are a fault.
func TestLoad(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("acme.yaml", sound)
	write("notes.txt", "no definition")
	github := write("hub.YML", strings.Replace(sound, "upstream: acme", "upstream: github", 1))
	s, err := Load([]string{folder}, map[string]string{"acme": "http://10.0.0.1:8080/", "google": "https://run.googleapis.com"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Source("acme.job") == nil || s.Source("github.job") == nil || s.Source("github.run") != nil || s.Source("cloudflare.lists") == nil {
		t.Error("not the sources that are defined")
	}
	if s.Upstream("acme").Base != "http://10.0.0.1:8080" || s.Upstream("google").Base != "https://run.googleapis.com" {
		t.Error("not the bases that were given")
	}
	if s.File("github") != github || s.File("cloudflare") != "builtin/cloudflare.yaml" || s.File("none") != "" {
		t.Error("not the files that define them")
	}
	again := write("again.yaml", sound)
	huge := write("huge.yaml", sound+strings.Repeat("#", maxFile))
	for _, test := range []struct {
		paths []string
		bases map[string]string
		says  string
	}{
		{[]string{folder, again}, nil, "acme is defined in"},
		{[]string{huge}, nil, "1 MiB"},
		{[]string{filepath.Join(folder, "none")}, nil, "no such file"},
		{nil, map[string]string{"acme": "https://a"}, `no upstream "acme"; there are azure`},
	} {
		if s, err := Load(test.paths, test.bases); s != nil || err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%v %v: got %v", test.paths, test.bases, err)
		}
	}
}

// No definition makes the program panic, and what is accepted reads anything.
func FuzzDefinition(f *testing.F) {
	f.Add([]byte(sound), []byte(`{"state":"done"}`))
	files, _ := filepath.Glob("builtin/*.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, []byte(`{"success":true,"result":{"status":"completed"},"errors":[{"code":1,"error_chain":[{"code":2}]}]}`))
	}
	f.Fuzz(func(t *testing.T, definition, body []byte) {
		u, err := Parse("fuzz.yaml", definition)
		if err != nil {
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Errorf("got %T", err)
			}
			return
		}
		for _, s := range u.Sources {
			for _, status := range []int{200, 204, 403, 500} {
				answer, tried := s.Explain(s.OperationID.Example, Response{Status: status, Body: body})
				if len(tried) != len(s.Rules) || answer.Verdict == "" {
					t.Errorf("%+v", answer)
				}
			}
			if address, err := s.URL(s.OperationID.Example, nil); err == nil && !strings.HasPrefix(address.String(), u.Base) && s.Path != "" {
				t.Errorf("%s is not below %s", address, u.Base)
			}
		}
	})
}
