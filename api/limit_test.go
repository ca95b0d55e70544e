package api_test

import (
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"oprelay/api"
	"oprelay/api/ratelimit"
	"oprelay/storage"
)

// As net/http reads them.
const (
	headerPolicy = "Ratelimit-Policy"
	headerLimit  = "Ratelimit"
)

// limited gives an API limits that it counts by itself.
func limited(limits api.Limits) func(*api.Config) {
	limits.Counter = ratelimit.New(nil, slog.New(slog.DiscardHandler), time.Now)
	return func(c *api.Config) { c.Limits = limits }
}

// left reads the two headers of a limit.
func left(t *testing.T, a reply) (quota, window, remaining, reset int64) {
	t.Helper()
	number := func(header, parameter string) int64 {
		list, err := httpsfv.UnmarshalList(a.header.Values(header))
		must(t, err)
		if len(list) != 1 {
			t.Fatalf("%s is %q, want one member", header, a.header.Values(header))
		}
		item, _ := list[0].(httpsfv.Item)
		value, _ := item.Params.Get(parameter)
		n, ok := value.(int64)
		if item.Value != "default" || !ok {
			t.Fatalf("%s is %q, want %q with %s", header, a.header.Values(header), "default", parameter)
		}
		return n
	}
	return number(headerPolicy, "q"), number(headerPolicy, "w"), number(headerLimit, "r"), number(headerLimit, "t")
}

func TestEveryAnswerToAKeyTellsWhatItMay(t *testing.T) {
	t.Parallel()
	r := newRelay(t, limited(api.Limits{Key: ratelimit.Rate{N: 1000, Per: time.Minute}}))
	read := r.key(r.tenant, storage.ScopeRead)
	document := readDocument(t)
	for _, o := range protected(t) {
		if operation := document.Paths.Find(o.path).GetOperation(o.method); operation.Responses.Status(http.StatusTooManyRequests) == nil {
			t.Errorf("%s %s: 429 is not described", o.method, o.path)
		}
		path := fill(o, func(string) string { return "no-id" })
		answer := r.do(read, o.method, path, "")
		if quota, window, remaining, reset := left(t, answer); quota != 1000 || window != 60 || remaining < 900 || reset < 1 || reset > 60 {
			t.Errorf("%s %s (%d): q=%d w=%d r=%d t=%d", o.method, o.path, answer.status, quota, window, remaining, reset)
		}
		for _, key := range []string{"", "relay_unknown"} {
			if h := r.do(key, o.method, path, "").header; h.Values(headerLimit) != nil || h.Values(headerPolicy) != nil {
				t.Errorf("%s %s with the key %q tells of a limit", o.method, o.path, key)
			}
		}
	}
}

func TestAKeyIsHeldToItsRate(t *testing.T) {
	t.Parallel()
	r := newRelay(t, limited(api.Limits{Key: ratelimit.Rate{N: 3, Per: time.Hour}}))
	for i := range 3 {
		if answer := r.do(r.write, http.MethodGet, "/v1/watches", ""); answer.status != http.StatusOK {
			t.Fatalf("request %d: %d", i, answer.status)
		}
	}
	refused := r.do(r.write, http.MethodPost, "/v1/credentials", `{"name":"c","api_token":"t"}`)
	if refused.status != http.StatusTooManyRequests || refused.problem.Type != "/docs#problem-rate-limited" {
		t.Errorf("%d %s", refused.status, refused.body)
	}
	if after, err := strconv.Atoi(refused.header.Get("Retry-After")); err != nil || after < 1100 || after > 1200 {
		t.Errorf("Retry-After %q, want a third of an hour", refused.header.Get("Retry-After"))
	}
	if _, _, remaining, _ := left(t, refused); remaining != 0 {
		t.Errorf("%d left", remaining)
	}
	if found := r.do(r.admin, http.MethodGet, "/v1/credentials", ""); found.status != http.StatusOK || contains(found, `"id"`) {
		t.Errorf("another key sees %d %s", found.status, found.body)
	}
}

// wrong tries a key that is none, as the client that the changes make of it.
func (r *relay) wrong(changes ...change) int {
	r.t.Helper()
	return r.do("relay_unknown", http.MethodGet, "/v1/watches", "", changes...).status
}

// revoked is a key of the tenant that was valid once.
func (r *relay) revoked() string {
	r.t.Helper()
	made, value, err := r.store.CreateKey(r.t.Context(), storage.NewAPIKey{
		TenantID: r.tenant.ID, Name: "old", Scopes: []storage.Scope{storage.ScopeAdmin},
	})
	must(r.t, err)
	if answer := r.do(string(value), http.MethodDelete, "/v1/keys/"+made.ID, ""); answer.status != http.StatusNoContent {
		r.t.Fatalf("a key revokes itself: %d %s", answer.status, answer.body)
	}
	return string(value)
}

// An address over the limit is told to wait with wrong keys, and served with
// valid ones that this process never saw before.
func TestWrongKeysLockNobodyOut(t *testing.T) {
	t.Parallel()
	r := newRelay(t, limited(api.Limits{WrongKeys: ratelimit.Rate{N: 3, Per: time.Hour}}))
	for range 10 {
		if answer := r.do("", http.MethodGet, "/v1/watches", ""); answer.status != http.StatusUnauthorized {
			t.Errorf("without a key: %d, which is no wrong one", answer.status)
		}
	}
	old := r.revoked()
	wrong := []string{"relay_unknown", old, "x y"} // unknown, revoked, malformed
	for i, presented := range wrong {
		if answer := r.do(presented, http.MethodGet, "/v1/watches", ""); answer.status != http.StatusUnauthorized {
			t.Errorf("wrong key %d: %d, want 401", i, answer.status)
		}
	}
	for _, presented := range wrong {
		answer := r.do(presented, http.MethodGet, "/v1/watches", "")
		if answer.status != http.StatusTooManyRequests || answer.problem.Type != "/docs#problem-too-many-wrong-keys" {
			t.Errorf("%d %s", answer.status, answer.body)
		}
		if after, err := strconv.Atoi(answer.header.Get("Retry-After")); err != nil || after < 1100 || after > 1200 {
			t.Errorf("Retry-After %q, want a third of an hour", answer.header.Get("Retry-After"))
		}
	}
	for _, valid := range []string{r.write, r.admin, r.key(r.tenant, storage.ScopeRead)} {
		if answer := r.do(valid, http.MethodGet, "/v1/watches", ""); answer.status != http.StatusOK {
			t.Errorf("a valid key is locked out: %d %s", answer.status, answer.body)
		}
	}
	if n := strings.Count(r.log.String(), `"level":"DEBUG","msg":"request"`); n != len(wrong) {
		t.Errorf("%d of %d requests that were told to wait are logged for debugging alone:\n%s", n, len(wrong), r.log)
	}
}

// Only a trusted proxy says where a request came from.
func TestWrongKeysAreCountedByTheClientsAddress(t *testing.T) {
	t.Parallel()
	from := func(addresses string) change { return withHeader("X-Forwarded-For", addresses) }
	tests := []struct {
		name          string
		trusted       []netip.Prefix
		first, second change
		same          bool // whether both count as one client
	}{
		{"a spoofed address", nil, from("192.0.2.1"), from("192.0.2.2"), true},
		{"a proxy that is another", prefixes("10.0.0.0/8"), from("192.0.2.1"), from("192.0.2.2"), true},
		{"behind a proxy", prefixes("127.0.0.1/32"), from("192.0.2.1"), from("192.0.2.2"), false},
		{"a spoof behind a proxy", prefixes("127.0.0.1/32"), from("198.51.100.1, 192.0.2.1"), from("198.51.100.2, 192.0.2.1"), true},
		{"two proxies", prefixes("127.0.0.1/32", "10.0.0.0/8"), from("192.0.2.1, 10.1.1.1"), from("192.0.2.2, 10.1.1.2"), false},
		{"a spoofed proxy", prefixes("127.0.0.1/32"), from("192.0.2.1, 10.1.1.1"), from("192.0.2.2, 10.1.1.1"), true},
		{"a private client", prefixes("127.0.0.1/32"), from("192.168.0.1"), from("192.168.0.2"), false},
		{"one IPv6 network", prefixes("127.0.0.1/32"), from("2001:db8:1:2::1"), from("2001:db8:1:2:ffff::9"), true},
		{"two IPv6 networks", prefixes("127.0.0.1/32"), from("2001:db8:1:2::1"), from("2001:db8:1:3::1"), false},
		{"IPv4 in IPv6", prefixes("127.0.0.1/32"), from("::ffff:192.0.2.1"), from("::ffff:192.0.2.2"), false},
		{"ports", prefixes("127.0.0.1/32"), from("192.0.2.1:1024"), from("192.0.2.2:1024"), false},
		{"another port of a client", prefixes("127.0.0.1/32"), from("192.0.2.1:1024"), from("192.0.2.1:2048"), true},
		{"with a port and without", prefixes("127.0.0.1/32"), from("192.0.2.1:1024"), from("192.0.2.1"), true},
		{"a proxy with a port", prefixes("127.0.0.1/32", "10.0.0.0/8"), from("192.0.2.1:1, 10.1.1.1:1"), from("192.0.2.2:1, 10.1.1.1:2"), false},
		{"a proxy's network as IPv6", prefixes("127.0.0.1/32", "::ffff:10.0.0.0/104"), from("192.0.2.1, 10.1.1.1"), from("192.0.2.2, 10.1.1.1"), false},
		{"IPv6 with ports", prefixes("127.0.0.1/32"), from("[2001:db8:1:2::1]:1"), from("[2001:db8:1:3::1]:1"), false},
		{"another port of an IPv6 client", prefixes("127.0.0.1/32"), from("[2001:db8:1:2::1]:1"), from("2001:db8:1:2::1"), true},
		{"IPv6 in brackets", prefixes("127.0.0.1/32"), from("[2001:db8:1:2::1]"), from("[2001:db8:1:3::1]"), false},
		{"zones of one network", prefixes("127.0.0.1/32"), from("fe80::1%eth0"), from("[fe80::1%eth1]:1"), true},
		{"a proxy with a zone", prefixes("127.0.0.1/32", "fe80::/10"), from("192.0.2.1, fe80::1%eth0"), from("192.0.2.2, fe80::1%eth0"), false},
		{"a zone", prefixes("127.0.0.1/32"), from("fe80::1%eth0"), from("192.0.2.1"), false},
		{"a port that is none", prefixes("127.0.0.1/32"), from("192.0.2.1:x"), from("192.0.2.2:y"), true},
		{"nonsense before the client", prefixes("127.0.0.1/32"), from("nonsense, 192.0.2.1"), from("nonsense, 192.0.2.2"), false},
		{"nonsense after it", prefixes("127.0.0.1/32"), from("192.0.2.1, nonsense"), from("192.0.2.2, nonsense"), true},
		{"nonsense", prefixes("127.0.0.1/32"), from("nonsense"), from("more nonsense"), true},
		{"another header", prefixes("127.0.0.1/32"), withHeader("X-Real-Ip", "192.0.2.1"), withHeader("X-Real-Ip", "192.0.2.2"), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, limited(api.Limits{WrongKeys: ratelimit.Rate{N: 1, Per: time.Hour}, TrustedProxies: test.trusted}))
			if got := r.wrong(test.first); got != http.StatusUnauthorized {
				t.Fatalf("the first wrong key: %d", got)
			}
			if got := r.wrong(test.first); got != http.StatusTooManyRequests {
				t.Errorf("the second of the same client: %d", got)
			}
			want := http.StatusUnauthorized
			if test.same {
				want = http.StatusTooManyRequests
			}
			if got := r.wrong(test.second); got != want {
				t.Errorf("the other client: %d, want %d", got, want)
			}
		})
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestLimitsNeedACounter(t *testing.T) {
	t.Parallel()
	for _, limits := range []api.Limits{
		{Key: ratelimit.Rate{N: 1, Per: time.Second}},
		{WrongKeys: ratelimit.Rate{N: 1, Per: time.Second}},
	} {
		_, err := api.New(api.Config{Store: &storage.Store{}, Logger: slog.New(slog.DiscardHandler), Egress: faulty{}, Sources: sources(), Limits: limits})
		if err == nil {
			t.Error("no error")
		}
	}
}
