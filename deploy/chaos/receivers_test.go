package chaos

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
)

// memoryLimit is what a process of the relay may take, in MiB. The race detector alone
// takes 5 to 10 times the memory: https://go.dev/doc/articles/race_detector#Runtime_Overheads
func memoryLimit() int {
	const limit = 200
	if testenv.HasRaceDetector() {
		return 5 * limit
	}
	return limit
}

// Receivers misbehave in every way, beside some that do not: each attempt is
// recorded for what it was, the others get theirs as before, and what was not
// accepted arrives when the destination is mended. As by the default schedule a first
// retry comes after five seconds: with one each second the machine would be full of
// retries, and what is measured beside them its lack of processors.
func TestReceiversMisbehave(t *testing.T) {
	alone(t)
	r := newRig(t, testenv.Postgres(t), testenv.Redis(t), 3,
		"RELAY_DELIVERY_TIMEOUT", "3s", "RELAY_RETRY_SCHEDULE", strings.Repeat("5s,", 40)+"5s")
	troubles, waited := newTroubles(t, r.receive)
	well, ill := r.newLoad(), r.newLoad()
	ill.destinations = map[string]string{}
	ids := make([]string, len(troubles))
	for i, trouble := range troubles {
		ids[i] = r.destination(trouble.url)
		ill.destinations[acceptedAt(t, trouble, i)] = ids[i]
	}
	well.start()
	others := r.newLoad() // as much work as the ill will be
	others.start()
	await(t, theForm().spell)
	before := r.measure(t, afterEvent)
	others.end()
	ill.start()
	await(t, theForm().spell) // receivers are in trouble by then
	beside := r.measure(t, afterEvent)
	well.end()
	ill.end()
	r.settle(t, well.books)
	compare(t, fmt.Sprintf("event to arrival, beside receivers that misbehave in %d ways", len(troubles)), before, beside, 0)
	waited.judge(t)
	for i, trouble := range troubles {
		r.classified(t, ids[i], trouble)
	}
	mended := time.Now()
	for i, trouble := range troubles {
		if trouble.err != "" {
			r.move(t, ids[i], r.address+acceptedAt(t, trouble, i))
		}
	}
	r.settle(t, ill.books)

	good, bad := r.audit(t, well.books), r.audit(t, ill.books)
	r.enter(t, row{
		order: 61, fault: fmt.Sprintf("receivers: %d ways to misbehave", len(troubles)), memory: bad.memory, recovery: ill.books.recovery([]time.Time{mended}),
		watches: good.watches + bad.watches, events: good.events + bad.events, lost: good.lost + bad.lost,
		doubled: good.doubled + bad.doubled, refused: good.refused + bad.refused, unanswered: good.unanswered + bad.unanswered,
	})
	if limit := memoryLimit(); bad.memory > limit {
		t.Errorf("a process of the relay took %d MiB, more than %d", bad.memory, limit)
	}
}

// acceptedAt is the path where the messages of a troubled destination arrive: its
// own if it accepts, else the one it moves to when it is mended.
func acceptedAt(t *testing.T, of trouble, i int) string {
	t.Helper()
	if of.err != "" {
		return "/mended/" + string(rune('a'+i))
	}
	u, err := url.Parse(of.url)
	if err != nil {
		t.Fatal(err)
	}
	return u.Path
}

// move gives the destination another URL.
func (r *rig) move(t *testing.T, id, to string) {
	t.Helper()
	changed, err := r.client.UpdateDestinationWithResponse(t.Context(), id, client.DestinationPatch{URL: &to})
	if err != nil {
		t.Fatal(err)
	}
	if changed.JSON200 == nil {
		t.Fatalf("change destination %s: %s", id, changed.Body)
	}
}

// classified wants every attempt of a destination recorded as what it was, of the
// first few deliveries that were attempted.
func (r *rig) classified(t *testing.T, destination string, as trouble) {
	t.Helper()
	const enough = 20
	attempts := 0
	for params := (&client.ListDeliveriesParams{DestinationID: &destination, Limit: new(200)}); attempts < enough; {
		page, err := r.client.ListDeliveriesWithResponse(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		if page.JSON200 == nil {
			t.Fatalf("%s: list its deliveries: %s", as.name, page.Body)
		}
		for _, d := range page.JSON200.Data {
			if d.AttemptsMade > 0 && attempts < enough {
				attempts += r.classifiedDelivery(t, d.ID, as)
			}
		}
		if params.Cursor = page.JSON200.NextCursor; params.Cursor == nil {
			break
		}
	}
	if attempts == 0 {
		t.Errorf("%s: no attempt was made", as.name)
	}
}

// classifiedDelivery returns how many attempts it looked at.
func (r *rig) classifiedDelivery(t *testing.T, id string, as trouble) int {
	t.Helper()
	got, err := r.client.GetDeliveryWithResponse(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got.JSON200 == nil || got.JSON200.Attempts == nil {
		t.Fatalf("delivery %s: %s", id, got.Body)
	}
	if as.err == "" && got.JSON200.Status != client.DeliverySucceeded {
		t.Errorf("%s: delivery %s is %s after %d attempts", as.name, id, got.JSON200.Status, got.JSON200.AttemptsMade)
	}
	for _, a := range *got.JSON200.Attempts {
		var status int
		var text string
		if a.StatusCode != nil {
			status = *a.StatusCode
		}
		if a.Error != nil {
			text = *a.Error
		}
		if status != as.status || (as.err == "") != (a.Error == nil) || !strings.Contains(text, as.err) {
			t.Errorf("%s: attempt %d of %s is recorded with status %d, error %q; want %d, %q", as.name, a.Number, id, status, text, as.status, as.err)
		}
	}
	return len(*got.JSON200.Attempts)
}
