package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"oprelay/storage"
)

// What was not accepted is told by destination, in number and with a link to all of it, unless there is nowhere to send it.
func TestOverviewOfFailedDeliveries(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	_, destinations := r.set("", "hook", "gone")
	_, key := r.key(r.tenant, storage.ScopeWrite)
	for range 3 {
		r.made(key, "/v1/destinations/"+destinations[0]+"/test", "{}")
	}
	r.made(key, "/v1/destinations/"+destinations[1]+"/test", "{}")
	r.attempts(storage.DeliveryFailed, "no complete answer in time: context deadline exceeded")
	b := r.signedIn(r.tenant, storage.ScopeWrite)
	page := b.get("/")
	page.inOrder(t, "Needs somebody", "failing hook", "accepts nothing: no complete answer in time now")
	for name, want := range map[string]string{"hook": "hook has not accepted 3 messages, the last", "gone": "gone has not accepted 1 message, the last"} {
		if !strings.Contains(page.text(), want) {
			t.Errorf("%s: no %q in\n%s", name, want, page.text())
		}
	}
	if all := b.get("/deliveries?destination_id=" + destinations[0] + "&status=failed"); strings.Count(all.body, "<tr data-key=") != 3 ||
		!strings.Contains(page.body, "/deliveries?destination_id="+destinations[0]+"&amp;status=failed") {
		t.Errorf("no link to all:\n%s\n%s", page.body, all.body)
	}
	if got := b.post("/destinations/"+destinations[1]+"/delete", url.Values{"force": {"on"}}); got.status != http.StatusSeeOther {
		t.Fatalf("delete: %d %s", got.status, got.body)
	}
	if said := b.get("/").text(); strings.Contains(said, "has not accepted 1 message") || !strings.Contains(said, "has not accepted 3 messages") {
		t.Errorf("with one of them deleted:\n%s", said)
	}
}
