package storage_test

import (
	"errors"
	"net"
	"net/url"
	"sync"
	"testing"

	"oprelay/deploy/testenv"
	"oprelay/storage"
)

// TestUnavailableWhenTheServerIsGone: what fails because PostgreSQL went away is
// told from a bug, on connections that were open and on new ones.
func TestUnavailableWhenTheServerIsGone(t *testing.T) {
	t.Parallel()
	testenv.Postgres(t) // skips where there is no PostgreSQL
	cluster, err := testenv.StartPostgres()
	if errors.Is(err, testenv.ErrNotInstalled) {
		t.Log("the PostgreSQL of the tests is elsewhere, and there is none here to be stopped")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := storage.Open(t.Context(), storage.Config{URL: cluster.URL, Keys: ring(t, storage.NewKey())})
	if err != nil {
		t.Fatal(errors.Join(err, cluster.Close()))
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Error(err)
	}
	err = s.Atomically(t.Context(), func(tx *storage.Store) error {
		if _, err := tx.EnsureTenant(t.Context(), "acme"); err != nil {
			return err
		}
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
		_, err := tx.EnsureTenant(t.Context(), "other")
		return err
	})
	if !storage.Unavailable(err) {
		t.Errorf("in a transaction: %v is not Unavailable", err)
	}
	for range 3 {
		if _, err := s.EnsureTenant(t.Context(), "acme"); !storage.Unavailable(err) {
			t.Errorf("after: %v is not Unavailable", err)
		}
	}
}

// TestSilentConnection: a connection that dies without a word is given up.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	server, err := url.Parse(testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	wire, silence := silentWire(t, server.Host)
	server.Host = wire
	s, err := storage.Open(t.Context(), storage.Config{URL: server.String(), Keys: ring(t, storage.NewKey())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(silence)
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := s.EnsureTenant(t.Context(), "acme"); !storage.Unavailable(err) {
			t.Errorf("a transaction: %v is not Unavailable", err)
		}
	})
	all.Go(func() {
		if _, err := s.AllKeys(t.Context()); !storage.Unavailable(err) {
			t.Errorf("a read: %v is not Unavailable", err)
		}
	})
	all.Wait()
}

// silentWire forwards connections to address until silence is closed; then they
// stay open, and nothing passes.
func silentWire(t *testing.T, address string) (listens string, silence chan struct{}) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	silence = make(chan struct{})
	pass := func(to, from net.Conn) {
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				_ = to.Close()
				return
			}
			select {
			case <-silence:
			default:
				_, _ = to.Write(buffer[:n])
			}
		}
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
			if err != nil {
				_ = client.Close()
				continue
			}
			go pass(server, client)
			go pass(client, server)
		}
	}()
	return listener.Addr().String(), silence
}
