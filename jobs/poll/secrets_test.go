package poll

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"oprelay/storage"
)

// What is kept is opened again when its time is over, however often it is used, and
// leaves memory soon after, though nobody asks for it.
func TestSecretsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, opened := newSecrets(), 0
		get := func() int {
			value, err := c.open("a", func() (storage.CredentialSecret, error) {
				opened++
				return storage.CredentialSecret{Version: opened}, nil
			})
			if err != nil {
				t.Error(err)
			}
			return value.Version
		}
		ctx, cancel := context.WithCancel(t.Context())
		go (&Poller{secrets: c}).ForgetSecrets(ctx)
		for range 3 {
			if got := get(); got != 1 {
				t.Errorf("opened %d times in half a minute", got)
			}
			<-time.After(10*time.Second + time.Millisecond)
		}
		if got := get(); got != 2 {
			t.Errorf("opened %d times after half a minute", got)
		}
		<-time.After(time.Minute)
		if n := c.Metrics().Evictions; c.Len() != 0 || n == 0 {
			t.Errorf("%d are kept, %d were dropped", c.Len(), n)
		}
		fault := errors.New("no")
		for range 2 {
			if _, err := c.open("b", func() (storage.CredentialSecret, error) { return storage.CredentialSecret{}, fault }); !errors.Is(err, fault) {
				t.Errorf("%v of what cannot be opened", err)
			}
		}
		cancel()
	})
}

// The number of secrets is bounded, whatever is asked for.
func TestSecretsAreBounded(t *testing.T) {
	t.Parallel()
	c := newSecrets()
	for i := range 3 * secretsMost {
		if _, err := c.open(strconv.Itoa(i), func() (storage.CredentialSecret, error) { return storage.CredentialSecret{}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.Len(); n != secretsMost {
		t.Errorf("%d are kept", n)
	}
}
