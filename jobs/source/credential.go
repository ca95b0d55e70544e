package source

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

const (
	redacted = "[redacted]"

	// shortestSecret keeps a nonsense secret of a letter or two from blanking half of every
	// message that passes through [Credential.redact].
	shortestSecret = 4
)

// Credential is what a poll authenticates with. However it is formatted, logged or encoded, it
// shows nothing of its contents. ID and Version name it in caches.
type Credential struct {
	ID      string
	Version int
	Fields  Fields
}

// Fields are the parts of a credential, by the names that the API has for them.
type Fields struct {
	APIToken       string // AuthBearer, AuthHeader
	Email, APIKey  string // AuthCloudflareKey
	Username       string // AuthBasic
	Password       string
	ClientID       string // AuthOAuth2Client
	ClientSecret   string
	ServiceAccount string // AuthGoogleServiceAccount: the JSON of its key
}

// String shows nothing of the fields.
func (Fields) String() string { return redacted }

// GoString shows nothing of the fields, under %#v too.
func (Fields) GoString() string { return redacted }

// Format shows nothing of the fields, whatever the verb.
func (Fields) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// LogValue shows nothing of the fields.
func (Fields) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON shows nothing of the fields.
func (Fields) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// auth is the way to authenticate that the fields are for, among those of the upstream; "" if
// they are for none of them.
func (f Fields) auth(u *Upstream) Auth {
	for _, auth := range u.Auth {
		var given bool
		switch auth {
		case AuthBearer:
			given = f.APIToken != ""
		case AuthCloudflareKey:
			given = f.Email != "" && f.APIKey != ""
		case AuthBasic:
			given = f.Username != "" || f.Password != ""
		case AuthOAuth2Client:
			given = f.ClientID != "" && f.ClientSecret != ""
		case AuthGoogleServiceAccount:
			given = f.ServiceAccount != ""
		case AuthNone:
			given = f == Fields{}
		default:
			given = f.APIToken != "" && strings.HasPrefix(string(auth), string(AuthHeader))
		}
		if given {
			return auth
		}
	}
	return ""
}

// problem says why the fields cannot be sent at all, "" if they can.
func (f Fields) problem(u *Upstream) string {
	switch {
	case f.auth(u) == "":
		return "the credential does not have what " + u.Title + " asks for: " + join(u.Auth)
	case strings.ContainsFunc(f.APIToken+f.Email+f.APIKey+f.Username+f.Password+f.ClientID+f.ClientSecret, isControl):
		return "the credential contains a line break or another control character"
	}
	return ""
}

// authorize sets the headers of the ways that need no token to be fetched.
func (f Fields) authorize(h http.Header, auth Auth) {
	switch auth {
	case AuthBearer:
		h.Set("Authorization", "Bearer "+f.APIToken)
	case AuthCloudflareKey:
		h.Set("X-Auth-Email", f.Email)
		h.Set("X-Auth-Key", f.APIKey)
	case AuthBasic:
		r := http.Request{Header: h}
		r.SetBasicAuth(f.Username, f.Password)
	case AuthOAuth2Client, AuthGoogleServiceAccount, AuthNone:
	default:
		h.Set(strings.TrimPrefix(string(auth), string(AuthHeader)), f.APIToken)
	}
}

// redact removes the credential, and a token that was fetched with it, from what an upstream
// sent back, as it is, in one case, or escaped. The email and the user's name too: nobody is
// shown them, and what the upstream says goes to every destination.
func (f Fields) redact(s string, more ...string) string {
	if s == "" {
		return ""
	}
	var forms []string
	add := func(secret string) {
		// No form of a secret of plain letters is shorter than it: a status such as "running"
		// cannot hold a token.
		if len(secret) >= shortestSecret && (len(s) >= len(secret) || !isASCII(secret)) {
			forms = append(forms, formsOf(secret)...)
		}
	}
	for _, secret := range append(more, f.APIToken, f.APIKey, f.Email, f.Username, f.Password, f.ClientID, f.ClientSecret) {
		add(secret)
	}
	for _, pair := range [][2]string{{f.Username, f.Password}, {f.ClientID, f.ClientSecret}} {
		if pair[1] != "" { // as basic authentication sends them
			add(base64.StdEncoding.EncodeToString([]byte(pair[0] + ":" + pair[1])))
		}
	}
	if len(forms) == 0 {
		return s
	}
	// The longest first, for one secret may begin with another.
	slices.SortFunc(forms, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	pairs := make([]string, 0, 2*len(forms))
	for _, form := range forms {
		pairs = append(pairs, form, redacted)
	}
	return strings.NewReplacer(pairs...).Replace(s)
}

// formsOf is how an upstream, or this package in quoting it, may write a secret.
func formsOf(secret string) []string {
	var forms []string
	for _, s := range [...]string{secret, strings.ToLower(secret), strings.ToUpper(secret)} {
		quoted := strconv.Quote(s)
		forms = append(forms, s, quoted[1:len(quoted)-1], url.QueryEscape(s), url.PathEscape(s))
		if encoded, err := json.Marshal(s); err == nil {
			forms = append(forms, string(encoded[1:len(encoded)-1]))
		}
	}
	return forms
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// FieldsOf takes a secret in one text for the first way to authenticate that it can be for: a
// token, NAME:SECRET, or the JSON of a service account's key.
func (u *Upstream) FieldsOf(secret string) Fields {
	if slices.Contains(u.Auth, AuthGoogleServiceAccount) && strings.HasPrefix(secret, "{") {
		return Fields{ServiceAccount: secret}
	}
	for _, auth := range u.Auth {
		name, rest, pair := strings.Cut(secret, ":")
		switch {
		case auth == AuthBasic && pair:
			return Fields{Username: name, Password: rest}
		case auth == AuthOAuth2Client && pair:
			return Fields{ClientID: name, ClientSecret: rest}
		case auth == AuthCloudflareKey && pair:
			return Fields{Email: name, APIKey: rest}
		case auth == AuthBearer, strings.HasPrefix(string(auth), string(AuthHeader)):
			return Fields{APIToken: secret}
		}
	}
	return Fields{}
}
