package api_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"oprelay/api/client"
)

// forget has retention delete all that ended more than an hour ago.
func (r *relay) forget() {
	r.t.Helper()
	const keep, every = time.Hour, time.Hour / 100
	r.clock.advance(every)
	for range 100 {
		pause, err := r.store.DeleteOld(r.t.Context(), keep)
		must(r.t, err)
		if pause == every {
			return
		}
	}
	r.t.Fatal("retention comes to no end")
}

// A reader of the feed whose place is gone is told so, and where the feed begins now: it never
// believes that it has read all.
func TestPlacesInTheFeedThatAreGone(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	var ids []string
	for range 3 {
		events := r.tester(r.write)
		ids = append(ids, events.events(2)...)
		must(t, r.store.ForceDeleteDestination(t.Context(), r.tenant.ID, events.destination)) // so that none waits
	}
	read := func(query string) (answer reply, list client.EventList) {
		t.Helper()
		if answer = r.do(r.write, http.MethodGet, "/v1/events"+query, ""); answer.status == http.StatusOK {
			must(t, json.Unmarshal(answer.body, &list))
		}
		return answer, list
	}
	_, first := read("?limit=1")
	began := r.clock.Now()
	r.clock.advance(2 * time.Hour)
	kept := r.tester(r.write).events(2)
	r.forget()
	gone, _ := read("?after=" + ids[5])
	if gone.problem.BeginsAfter == nil {
		t.Fatalf("after the last that is gone: %d %s", gone.status, gone.body)
	}
	begins := *gone.problem.BeginsAfter
	for _, query := range []string{"?after=" + ids[0], "?after=" + ids[4], "?cursor=" + *first.NextCursor, "?after=" + ids[1] + "&type=destination.test"} {
		answer, _ := read(query)
		p := answer.problem
		if answer.status != http.StatusGone || p.Type != "/docs#problem-feed-gone" || p.BeginsAfter == nil || *p.BeginsAfter != begins {
			t.Errorf("%s: %d %s", query, answer.status, answer.body)
		}
		if at := began.Format(time.RFC3339); !strings.Contains(p.Detail, ids[5]+", of "+at) {
			t.Errorf("%s does not say where the feed begins: %s", query, p.Detail)
		}
	}
	for _, query := range []string{"", "?after=" + begins, "?since=" + began.Format(time.RFC3339)} {
		answer, list := read(query)
		var got []string
		for _, e := range list.Data {
			got = append(got, e.ID)
		}
		if !slices.Equal(got, kept) {
			t.Errorf("%q: %d %v, want %v", query, answer.status, got, kept)
		}
	}
	for _, params := range []client.StreamEventsParams{{After: &ids[2]}, {LastEventID: &ids[0], After: &kept[0]}} {
		_, err := r.tryStream(t.Context(), r.write, &params)
		refused := (*client.RefusedError)(nil)
		if !errors.As(err, &refused) || refused.Status != http.StatusGone || *refused.Problem.BeginsAfter != begins {
			t.Errorf("a stream: %v", err)
		}
	}
	if got := idsOf(receive(t, r.stream(r.write, &client.StreamEventsParams{After: &begins}), 2)); !slices.Equal(got, kept) {
		t.Errorf("a stream from where the feed begins: %v, want %v", got, kept)
	}
	if answer := r.do(r.write, http.MethodGet, "/v1/events/"+ids[0], ""); answer.status != http.StatusNotFound {
		t.Errorf("an event that is gone: %d", answer.status)
	}
	if answer, _ := read("?after=event_7zzzzzzzzzzzzzzzzzzzzzzzzz"); answer.status != http.StatusUnprocessableEntity {
		t.Errorf("an event that never was: %d", answer.status)
	}
}
