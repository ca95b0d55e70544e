package poll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jellydator/ttlcache/v3"

	"oprelay/storage"
)

const (
	// secretTTL is how long a credential's secret is kept in memory.
	secretTTL = 30 * time.Second
	// secretsMost bounds how many are kept.
	secretsMost = 10_000
)

// errSecretReplaced says that a credential has got another secret since the claim.
var errSecretReplaced = errors.New("the credential's secret was replaced")

// secret is what the poll is charged for: kept by its version, so that a new one is used
// by all processes from the next claim on, and never charged to the budget of the old.
func (p *Poller) secret(ctx context.Context, due row) (storage.CredentialSecret, error) {
	return p.secrets.open(fmt.Sprint(due.CredentialID, " ", due.CredentialVersion), func() (storage.CredentialSecret, error) {
		secret, err := p.store.OpenCredential(ctx, due.CredentialID)
		if err == nil && secret.Version != due.CredentialVersion {
			err = errSecretReplaced
		}
		return secret, err
	})
}

// secrets keeps opened secrets for a short time, as opening one costs a query.
type secrets struct {
	*ttlcache.Cache[string, storage.CredentialSecret]
}

func newSecrets() secrets {
	return secrets{ttlcache.New(
		ttlcache.WithTTL[string, storage.CredentialSecret](secretTTL),
		ttlcache.WithCapacity[string, storage.CredentialSecret](secretsMost),
		ttlcache.WithDisableTouchOnHit[string, storage.CredentialSecret](),
	)}
}

// open returns what is kept under the key, or opens it and keeps that.
func (s secrets) open(key string, open func() (storage.CredentialSecret, error)) (storage.CredentialSecret, error) {
	if kept := s.Get(key); kept != nil {
		return kept.Value(), nil
	}
	secret, err := open()
	if err == nil {
		s.Set(key, secret, ttlcache.DefaultTTL)
	}
	return secret, err
}

// ForgetSecrets drops secrets that nobody asks for any more, until ctx ends: none stays
// for longer than twice its time.
func (p *Poller) ForgetSecrets(ctx context.Context) {
	ticker := time.NewTicker(secretTTL)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.secrets.DeleteExpired()
		case <-ctx.Done():
			return
		}
	}
}
