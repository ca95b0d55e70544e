package source

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tokenStand stands in for a token endpoint and for the API that its tokens are for.
type tokenStand struct {
	*httptest.Server

	*Client

	source *Source
	asked  atomic.Int64 // for tokens
	forms  chan string
	grant  http.HandlerFunc
	now    atomic.Int64 // Unix seconds
	bearer atomic.Value // that the API accepts; any if it is ""
}

const definitionOfTokens = `upstream: acme
title: Acme
base: %[1]s
auth: [%[2]s]
token_url: %[1]s/token
scopes: [read, more]
budget: 60/1m
egress: 10/1s
message: /why
sources:
  job:
    title: Job
    path: /jobs/{operation_id}
    operation_id: '[a-z0-9]{1,20}'
    status: /state
    rules: [{when: {/state: done}, as: completed}]
    examples: [{body: {state: done}, as: completed}]
`

func standForTokens(t *testing.T, auth Auth, grant http.HandlerFunc) *tokenStand {
	t.Helper()
	s := &tokenStand{forms: make(chan string, 1000), grant: grant}
	s.now.Store(1_767_323_045)
	s.bearer.Store("")
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			s.asked.Add(1)
			_ = r.ParseForm()
			id, secret, _ := r.BasicAuth()
			s.forms <- id + ":" + secret + " " + r.Form.Encode()
			s.grant(w, r)
			return
		}
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if want := s.bearer.Load(); want != "" && want != token {
			reply(401, `{"why":"I do not know `+token+`"}`)(w, r)
			return
		}
		reply(200, `{"state":"done"}`)(w, r)
	}))
	t.Cleanup(s.Server.Close)
	u, err := Parse("acme.yaml", fmt.Appendf(nil, definitionOfTokens, s.URL, auth))
	if err != nil {
		t.Fatal(err)
	}
	s.source = u.Sources[0]
	s.Client = NewClient(Config{Now: func() time.Time { return time.Unix(s.now.Load(), 0) }})
	t.Cleanup(s.Client.Close)
	return s
}

func (s *tokenStand) poll(t *testing.T, cred Credential) Answer {
	t.Helper()
	return s.Poll(t.Context(), Poll{Source: s.source, Credential: cred, OperationID: "a1"})
}

func clientCredentials() Credential {
	return Credential{ID: "credential_1", Fields: Fields{ClientID: "client-marker", ClientSecret: "secret-marker"}}
}

// granted is a token that ends after an hour of the real clock, by which oauth2 reckons.
func granted(token string) http.HandlerFunc {
	return reply(200, `{"access_token":"`+token+`","token_type":"Bearer","expires_in":3600}`, "Content-Type", "application/json")
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	s := standForTokens(t, AuthOAuth2Client, granted("token-marker-1"))
	s.now.Store(time.Now().Unix())
	for range 3 {
		if got := s.poll(t, clientCredentials()); got.Verdict != Completed || got.Requests != 1 {
			t.Fatalf("got %+v", got)
		}
	}
	if asked := s.asked.Load(); asked != 1 {
		t.Errorf("%d tokens were fetched for three polls", asked)
	}
	if form, want := <-s.forms, "client-marker:secret-marker grant_type=client_credentials&scope=read+more"; form != want {
		t.Errorf("the token was asked for with %q, want %q", form, want)
	}
	// Another version of the secret has a token of its own, and so has another credential.
	changed, other := clientCredentials(), clientCredentials()
	changed.Version, other.ID = 2, "credential_2"
	s.poll(t, changed)
	s.poll(t, other)
	if asked := s.asked.Load(); asked != 3 {
		t.Errorf("%d tokens were fetched for three credentials", asked)
	}
	// One that is about to end is fetched anew.
	s.now.Add(3600)
	s.poll(t, clientCredentials())
	if asked := s.asked.Load(); asked != 4 {
		t.Errorf("%d tokens were fetched, want another at the end of the first", asked)
	}
	// So is one that the upstream refuses, for the next poll.
	s.now.Store(time.Now().Unix())
	s.bearer.Store("token-marker-2")
	s.grant = granted("token-marker-2")
	if got := s.poll(t, clientCredentials()); got.Verdict != Refused || !strings.Contains(got.Problem, "I do not know [redacted]") {
		t.Errorf("a token that was revoked: got %+v", got)
	}
	if got := s.poll(t, clientCredentials()); got.Verdict != Completed {
		t.Errorf("after the token was revoked: got %+v", got)
	}
}

// A token is fetched once, however many polls wait for it.
func TestOneRefreshAtATime(t *testing.T) {
	t.Parallel()
	const polls = 100
	let := make(chan struct{})
	s := standForTokens(t, AuthOAuth2Client, func(w http.ResponseWriter, r *http.Request) {
		<-let
		granted("token-marker")(w, r)
	})
	s.now.Store(time.Now().Unix())
	var done sync.WaitGroup
	for range polls {
		done.Go(func() {
			if got := s.poll(t, clientCredentials()); got.Verdict != Completed {
				t.Errorf("got %+v", got)
			}
		})
	}
	close(let)
	done.Wait()
	if asked := s.asked.Load(); asked != 1 {
		t.Errorf("%d tokens were fetched for %d polls", asked, polls)
	}
}

// What a token endpoint says is never shown, and only its refusal counts as one.
func TestTokensThatAreNotGiven(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another host was asked for a token") }))
	t.Cleanup(elsewhere.Close)
	echo := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			reply(status, `{"error":"invalid_client","error_description":"`+r.Header.Get("Authorization")+` secret-marker"}`, "Content-Type", "application/json")(w, r)
		}
	}
	for name, test := range map[string]struct {
		grant http.HandlerFunc
		want  Verdict
	}{
		"400":            {echo(400), Refused},
		"401":            {echo(401), Refused},
		"403":            {reply(403, "<html>secret-marker"), Refused},
		"404":            {reply(404, "secret-marker"), Inconclusive},
		"429":            {reply(429, "secret-marker"), Inconclusive},
		"500":            {reply(500, "secret-marker"), Inconclusive},
		"no JSON":        {reply(200, "<html>secret-marker"), Inconclusive},
		"no token":       {reply(200, `{"token_type":"Bearer"}`, "Content-Type", "application/json"), Inconclusive},
		"a broken token": {reply(200, `{"access_token":"secret-marker\r\nX-A: b","expires_in":3600}`, "Content-Type", "application/json"), Inconclusive},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, Inconclusive},
		"reset": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, Inconclusive},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := standForTokens(t, AuthOAuth2Client, test.grant)
			got := s.poll(t, clientCredentials())
			if got.Verdict != test.want || got.Problem == "" || got.HTTPStatus != 0 {
				t.Errorf("got %+v", got)
			}
			shown := fmt.Sprintf("%+v", got)
			for _, secret := range []string{"secret-marker", base64.StdEncoding.EncodeToString([]byte("client-marker:secret-marker"))} {
				if strings.Contains(shown, secret) {
					t.Errorf("%q shows in %s", secret, shown)
				}
			}
		})
	}
}

func TestServiceAccount(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the key's token_uri was asked") }))
	t.Cleanup(elsewhere.Close)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := func(kind string, key []byte) string {
		text, _ := json.Marshal(map[string]string{
			"type": "service_account", "client_email": "relay@project.example", "private_key_id": "k1", "token_uri": elsewhere.URL,
			"private_key": string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: key})),
		})
		return string(text)
	}
	s := standForTokens(t, AuthGoogleServiceAccount, granted("token-marker"))
	for i, text := range []string{file("PRIVATE KEY", pkcs8), file("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))} {
		if got := s.poll(t, Credential{ID: strconv.Itoa(i), Fields: Fields{ServiceAccount: text}}); got.Verdict != Completed {
			t.Errorf("got %+v", got)
		}
		form := <-s.forms
		if !strings.Contains(form, "assertion=") || !strings.Contains(form, "jwt-bearer") {
			t.Errorf("asked with %q", form)
		}
		_, assertion, _ := strings.Cut(form, "assertion=")
		_, assertion, _ = strings.Cut(assertion, ".")
		assertion, _, _ = strings.Cut(assertion, ".")
		claims, _ := base64.RawURLEncoding.DecodeString(assertion)
		for _, want := range []string{`"iss":"relay@project.example"`, `"aud":"` + s.URL + `/token"`, `"scope":"read more"`} {
			if !strings.Contains(string(claims), want) {
				t.Errorf("%s is not in %s", want, claims)
			}
		}
	}
	for name, text := range map[string]string{
		"no JSON":    "marker",
		"no key":     `{"type":"service_account","client_email":"a@b","private_key":"marker"}`,
		"no account": strings.Replace(file("PRIVATE KEY", pkcs8), "service_account", "authorized_user", 1),
		"no RSA":     file("PRIVATE KEY", []byte("marker")),
		"half a key": strings.Replace(file("PRIVATE KEY", pkcs8), "END PRIVATE", "END", 1),
	} {
		before := s.asked.Load()
		got := s.poll(t, Credential{ID: name, Fields: Fields{ServiceAccount: text}})
		if got.Verdict != Refused || s.asked.Load() != before || strings.Contains(fmt.Sprintf("%+v", got), "marker") {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// Each way to authenticate sends what it should and nothing else.
func TestAuthHeaders(t *testing.T) {
	t.Parallel()
	for auth, test := range map[Auth]struct {
		secret string
		header string
		value  string
	}{
		AuthBearer:           {"token-marker", "Authorization", "Bearer token-marker"},
		"header:X-Api-Key":   {"token-marker", "X-Api-Key", "token-marker"},
		AuthBasic:            {"me:pass:word", "Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("me:pass:word"))},
		AuthCloudflareKey:    {"me@example.com:key-marker", "X-Auth-Key", "key-marker"},
		AuthNone:             {"", "Authorization", ""},
		"header:X-Auth-Key":  {"key", "X-Auth-Key", "key"},
		"header:X-Auth-Mail": {"mail", "X-Auth-Mail", "mail"},
	} {
		u := &Upstream{Auth: []Auth{auth}}
		fields := u.FieldsOf(test.secret)
		h := http.Header{}
		fields.authorize(h, fields.auth(u))
		if problem := fields.problem(u); problem != "" || h.Get(test.header) != test.value {
			t.Errorf("%s: %q, %v", auth, problem, h)
		}
		if auth == AuthBasic && strings.Contains(fields.redact("a "+strings.TrimPrefix(test.value, "Basic ")+" b"), "bWU6") {
			t.Error("an echo of basic authentication is not redacted")
		}
	}
}
