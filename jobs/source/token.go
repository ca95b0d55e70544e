package source

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"
	"golang.org/x/sync/singleflight"
)

// unsaidLife is how long a token is used that says nothing of its end.
const unsaidLife = 5 * time.Minute

// tokenMargin is how long before its end a token is fetched anew.
const tokenMargin = 30 * time.Second

// tokens keeps access tokens in memory until they end. One is fetched at a time for each
// credential.
type tokens struct {
	client  *http.Client
	now     func() time.Time
	fetches singleflight.Group

	mu   sync.Mutex
	kept map[string]*oauth2.Token // by credential and version
}

// errRefused says that the token's URL does not accept the credential.
var errRefused = errors.New("no access token was given for the credential")

// get is an access token for the credential. An error that is errRefused is the credential's
// fault, any other is not.
func (t *tokens) get(ctx context.Context, u *Upstream, auth Auth, cred Credential) (string, error) {
	key := tokenKey(u, cred)
	if token := t.current(key); token != nil {
		return token.AccessToken, nil
	}
	// Whoever asks first fetches for all, so its end must not be theirs.
	fetched := t.fetches.DoChan(key, func() (any, error) {
		if token := t.current(key); token != nil { // of the one before, which has just ended
			return token, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.client.Timeout)
		defer cancel()
		token, err := t.fetch(ctx, u, auth, cred.Fields)
		if err == nil {
			t.keep(key, token)
		}
		return token, err
	})
	select {
	case result := <-fetched:
		if result.Err != nil {
			return "", tokenError(result.Err)
		}
		token, _ := result.Val.(*oauth2.Token)
		return token.AccessToken, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func tokenKey(u *Upstream, cred Credential) string {
	return fmt.Sprint(u.Name, " ", cred.ID, " ", cred.Version)
}

// current is the token that is kept and lasts long enough, nil for none.
func (t *tokens) current(key string) *oauth2.Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	if token := t.kept[key]; token != nil && t.now().Before(token.Expiry.Add(-tokenMargin)) {
		return token
	}
	return nil
}

// fetch asks the definition's own URL, whatever a credential says.
func (t *tokens) fetch(ctx context.Context, u *Upstream, auth Auth, f Fields) (*oauth2.Token, error) {
	ctx = context.WithValue(ctx, oauth2.HTTPClient, t.client)
	if auth == AuthOAuth2Client {
		config := clientcredentials.Config{
			ClientID: f.ClientID, ClientSecret: f.ClientSecret, TokenURL: u.TokenURL, Scopes: u.Scopes,
			AuthStyle: oauth2.AuthStyleInHeader, // which RFC 6749, section 2.3.1, has every server support
		}
		return config.Token(ctx)
	}
	account, err := readServiceAccount(f.ServiceAccount)
	if err != nil {
		return nil, err
	}
	config := jwt.Config{
		Email: account.Email, PrivateKey: []byte(account.Key), PrivateKeyID: account.KeyID, TokenURL: u.TokenURL, Scopes: u.Scopes,
	}
	return config.TokenSource(ctx).Token()
}

// keep drops what has ended, so that no more are kept than there are credentials in use.
func (t *tokens) keep(key string, token *oauth2.Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for other, kept := range t.kept {
		if t.now().After(kept.Expiry) {
			delete(t.kept, other)
		}
	}
	if token.Expiry.IsZero() {
		token.Expiry = t.now().Add(unsaidLife)
	}
	t.kept[key] = token
}

// forget drops a token that the upstream has refused, so that the next poll has another.
func (t *tokens) forget(u *Upstream, cred Credential, refused string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := tokenKey(u, cred)
	if token := t.kept[key]; token != nil && token.AccessToken == refused {
		delete(t.kept, key)
	}
}

// tokenAnswerError says that the token's URL gave no token, for reasons of its own.
type tokenAnswerError struct {
	status int
	header http.Header
}

func (e *tokenAnswerError) Error() string {
	return fmt.Sprintf("the token's URL answered HTTP %d without a token", e.status)
}

// tokenError tells a refusal (RFC 6749, section 5.2) from a server that is away.
func tokenError(err error) error {
	if errors.Is(err, errServiceAccount) {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	answered, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || answered.Response == nil {
		return err
	}
	switch status := answered.Response.StatusCode; status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: HTTP %d %s", errRefused, status, answered.ErrorCode)
	default:
		return &tokenAnswerError{status, answered.Response.Header}
	}
}

// serviceAccount is the part of a Google service account's key that is read. Its token_uri is
// not: the definition says where the token is fetched.
type serviceAccount struct {
	Type  string `json:"type"`
	Email string `json:"client_email"`
	Key   string `json:"private_key"`
	KeyID string `json:"private_key_id"`
}

var errServiceAccount = errors.New("the service account is not the JSON of a key, with client_email and private_key")

func readServiceAccount(text string) (account serviceAccount, err error) {
	if json.Unmarshal([]byte(text), &account) != nil || account.Type != "service_account" || account.Email == "" || account.Key == "" {
		return account, errServiceAccount
	}
	block, _ := pem.Decode([]byte(account.Key))
	if block == nil {
		return account, errServiceAccount
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	if _, ok := key.(*rsa.PrivateKey); err != nil || !ok {
		return account, errServiceAccount
	}
	return account, nil
}
