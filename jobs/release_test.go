package jobs

import (
	"testing"

	"oprelay/deploy/testenv"
	"oprelay/storage"
)

// A lease that cannot be given back because the database is away is given back as
// soon as it is there again, and does not keep the group from others until it ends.
func TestReleaseOutlastsAnOutage(t *testing.T) {
	t.Parallel()
	b := postgresBackend()
	var proxy *testenv.Proxy
	b.database = func(t *testing.T) string {
		t.Helper()
		proxy = testenv.StartProxy(t, testenv.Postgres(t))
		return proxy.URL
	}
	r := newRelay(t, b)
	w := newWorker(t.Context(), r.config)
	to := r.webhook(nil)
	r.watch(r.credential("token"), []string{"op"}, to.id)
	groups, err := r.store.DueGroups(t.Context(), 1)
	if err != nil || len(groups) != 1 {
		t.Fatalf("due: %v, %v", groups, err)
	}
	g := groups[0]
	lease := func(owner string) bool {
		ok, err := r.store.LeaseGroup(t.Context(), g, owner, leaseTTL)
		return err == nil && ok
	}
	if !lease(w.owner) {
		t.Fatal("no lease")
	}
	proxy.Refuse()
	if err := r.store.Ping(t.Context()); !storage.Unavailable(err) {
		t.Fatalf("the database is away, and answers %v", err)
	}
	released := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		close(began)
		_, err := w.release(t.Context(), g, storage.Pause{})
		released <- err
	}()
	<-began
	for range 100 { // the first tries fail meanwhile
		if r.store.Ping(t.Context()) == nil {
			t.Error("the database answers")
		}
	}
	proxy.Restore()
	if err := <-released; err != nil {
		t.Errorf("not released: %v", err)
	}
	if !lease("another") {
		t.Error("the group cannot be leased")
	}
}
