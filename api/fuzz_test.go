package api_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// fuzzed is a relay whose requests do not go through the *testing.F that made it.
type fuzzed struct {
	*relay

	credentialID, destinationID string
}

func newFuzzed(f *testing.F) fuzzed {
	f.Helper()
	// Names in fuzzed URLs are looked up nowhere. No other test runs beside a fuzz target.
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("nothing is looked up here")
	}}
	f.Cleanup(func() { net.DefaultResolver = before })
	r := newRelay(f)
	return fuzzed{relay: r, credentialID: r.made(r.write, "/v1/credentials", `{"name":"c","api_token":"t"}`), destinationID: r.webhook(r.write)}
}

// send is relay.do for the inside of a fuzz target.
func (r fuzzed) send(t *testing.T, key, method, path string, body []byte) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.url+path, bytes.NewReader(body))
	must(t, err)
	request.Header.Set("Authorization", "Bearer "+key)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := r.http.Do(request)
	must(t, err)
	defer response.Body.Close()
	answer := reply{status: response.StatusCode, header: response.Header}
	answer.body, err = io.ReadAll(response.Body)
	must(t, err)
	if answer.status >= http.StatusBadRequest {
		must(t, json.Unmarshal(answer.body, &answer.problem))
	}
	return answer
}

// fuzzedPosts are what registers something, with bodies that are accepted.
func (r fuzzed) posts() []struct{ path, body string } {
	watch := strings.TrimSuffix(watchBody(r.credentialID, r.destinationID), "}") + `,"events":["operation.failed"],"metadata":{"deploy":"42","é/~":"a\nb"}}`
	return []struct{ path, body string }{
		{"/v1/watches", watch},
		{"/v1/watches/batch", `{"watches":[` + watch + `,` + watchBody(r.credentialID, r.destinationID) + `]}`},
		{"/v1/destinations", `{"type":"webhook","name":"h","url":"` + publicURL + `","headers":{"X-Team":"a"},"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw","alerts":true,"rate_limit":5,"max_in_flight":3}`},
		{"/v1/destinations", `{"type":"slack","name":"s","webhook_url":"` + publicURL + `"}`},
		{"/v1/destinations", `{"type":"slack","name":"s","bot_token":"xoxb-1","channel":"C1"}`},
		{"/v1/credentials", `{"name":"c","api_token":"t"}`},
		{"/v1/credentials", `{"name":"c","email":"a@example.com","api_key":"k"}`},
		{"/v1/keys", `{"name":"k","scopes":["read","write"]}`},
		{"/v1/destinations/" + r.destinationID + "/rotate-secret", `{"overlap_seconds":60}`},
		{"/v1/destinations/" + r.destinationID + "/recover", `{"since":"2026-11-23T10:00:00Z","until":"2026-11-24T10:00:00Z"}`},
	}
}

// Whatever is sent is registered as it was sent, or refused with every fault at its place; it is never a fault of the
// relay's.
func FuzzRegistration(f *testing.F) {
	r := newFuzzed(f)
	posts := r.posts()
	for i, post := range posts {
		f.Add(uint8(i), []byte(post.body))
		for _, from := range []string{"1", "true", `"`, "}", "[", ":"} {
			f.Add(uint8(i), []byte(strings.ReplaceAll(post.body, from, `null`)))
			f.Add(uint8(i), []byte(strings.Replace(post.body, from, from+from, 1)))
		}
	}
	for _, seed := range []string{
		"", "null", "[]", "{}", `"x"`, "1e999", `{"name":"\u0000"}`, `{"name":{"a":[]},"type":7,"url":[],"headers":[]}`, `{"a/b~":1,"":2}`, `{"metadata":{"":""}}`,
		`{"watches":[]}`, `{"watches":[null,1,{},[]]}`, `{"type":"webhook","name":"x","url":"http://127.0.0.1/","headers":{"Host":"a","host":"b","":"c"}}`,
	} {
		for i := range posts {
			f.Add(uint8(i), []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		path := posts[int(which)%len(posts)].path
		answer := r.send(t, r.admin, http.MethodPost, path, body)
		switch answer.status {
		case http.StatusCreated, http.StatusOK, http.StatusAccepted:
			r.checkKept(t, answer, body)
		case http.StatusUnprocessableEntity:
			checkPointers(t, answer, body)
		case http.StatusBadRequest:
			if answer.problem.Detail == "" || json.Valid(body) && answer.problem.Detail == "It cannot be read." {
				t.Errorf("%s: %q is refused with %s", path, body, answer.body)
			}
		case http.StatusRequestEntityTooLarge:
			if len(body) <= 1<<20 {
				t.Errorf("%d bytes are too many", len(body))
			}
		default:
			t.Errorf("%s: %q is answered with %d %s", path, body, answer.status, answer.body)
		}
	})
}

// checkKept holds what was answered, and what is shown afterwards, against what was sent.
func (r fuzzed) checkKept(t *testing.T, answer reply, body []byte) {
	t.Helper()
	var sent, made map[string]any
	if len(body) > 0 {
		must(t, json.Unmarshal(body, &sent))
	}
	must(t, json.Unmarshal(answer.body, &made))
	if batch, is := sent["watches"].([]any); is {
		rows, _ := made["data"].([]any)
		if len(rows) != len(batch) {
			t.Fatalf("%d watches of %d: %s", len(rows), len(batch), answer.body)
		}
		for i := range batch {
			one, _ := batch[i].(map[string]any)
			row, _ := rows[i].(map[string]any)
			checkSame(t, one, row)
		}
		return
	}
	checkSame(t, sent, made)
	place := answer.header.Get("Location")
	if place == "" {
		return
	}
	shown := r.send(t, r.write, http.MethodGet, place, nil)
	var kept map[string]any
	must(t, json.Unmarshal(shown.body, &kept))
	delete(made, "secret")  // shown once
	delete(kept, "waiting") // only where one is asked for
	if !reflect.DeepEqual(kept, made) {
		t.Errorf("%s is shown as %s", answer.body, shown.body)
	}
}

// checkSame looks at every field of the request that the answer has too.
func checkSame(t *testing.T, sent, made map[string]any) {
	t.Helper()
	for name, value := range sent {
		got, shown := made[name]
		if headers, is := value.(map[string]any); is && name == "headers" {
			masked, _ := got.(map[string]any)
			if len(masked) != len(headers) {
				t.Errorf("headers %v are shown as %v", headers, got)
			}
			continue
		}
		if list, is := value.([]any); is {
			sort := func(list []any) {
				slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
			sort(list)
			if others, is := got.([]any); is {
				sort(others)
			}
		}
		if shown && !reflect.DeepEqual(value, got) {
			t.Errorf("%s was sent as %v and is %v", name, value, got)
		}
	}
}

// checkPointers wants at least one fault, and each at a place in the body or just below one.
func checkPointers(t *testing.T, answer reply, body []byte) {
	t.Helper()
	var sent any
	if len(body) > 0 {
		numbers := json.NewDecoder(bytes.NewReader(body))
		numbers.UseNumber() // as large as they like
		must(t, numbers.Decode(&sent))
	}
	if len(answer.problem.Errors) == 0 {
		t.Errorf("refused without a fault: %s", answer.body)
	}
	for _, fault := range answer.problem.Errors {
		steps := strings.Split(fault.Pointer, "/")
		if fault.Detail == "" || steps[0] != "" {
			t.Errorf("a fault without place or detail: %+v", fault)
		}
		at := sent
		for i, step := range steps[1:] {
			step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
			below, found := child(at, step)
			if !found && i < len(steps)-2 {
				t.Errorf("%q leads nowhere in %q", fault.Pointer, body)
				break
			}
			at = below
		}
	}
}

func child(value any, step string) (any, bool) {
	switch value := value.(type) {
	case map[string]any:
		below, found := value[step]
		return below, found
	case []any:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(value) {
			return value[i], true
		}
	}
	return nil, false
}

// Any cursor is refused, or gives a part of the list that its own tenant may see.
func FuzzCursor(f *testing.F) {
	r := newFuzzed(f)
	_, other := r.otherTenant()
	r.populate(r.admin)
	r.populate(other)
	r.expire()
	prefixes := []string{"credential_", "destination_", "key_", "watch_", "event_", "delivery_"}
	lists := []string{"credentials", "destinations", "keys", "watches", "events", "deliveries"}
	foreign := make(map[string]bool)
	for i, list := range lists {
		f.Add(uint8(i), r.cursor(r.admin, list))
		f.Add(uint8(i), r.cursor(other, list))
		for _, id := range r.ids(other, list) {
			foreign[id] = true
		}
		for _, id := range append(r.ids(r.admin, list), r.ids(other, list)...) {
			for k := range lists {
				f.Add(uint8(k), base64.RawURLEncoding.EncodeToString([]byte(id)))
			}
		}
	}
	for _, seed := range []string{"", "x", "!", "credential_01jd8p5kzve6wbdq8rfg0m3c7x", "Y3JlZGVudGlhbF8", "%00", "a b", "a&limit=1", "' OR 1=1 --", "\xff", strings.Repeat("A", 201)} {
		f.Add(uint8(0), seed)
	}
	f.Fuzz(func(t *testing.T, which uint8, cursor string) {
		i := int(which) % len(lists)
		answer := r.send(t, r.admin, http.MethodGet, "/v1/"+lists[i]+"?limit=2&cursor="+url.QueryEscape(cursor), nil)
		switch answer.status {
		case http.StatusUnprocessableEntity:
			if pointers := answer.pointers(); len(pointers) != 1 || pointers[0] != "?cursor" {
				t.Errorf("%q is refused at %v", cursor, pointers)
			}
		case http.StatusOK:
			var page struct{ Data []struct{ ID string } }
			must(t, json.Unmarshal(answer.body, &page))
			after, err := base64.RawURLEncoding.DecodeString(cursor)
			if err != nil || !strings.HasPrefix(string(after), prefixes[i]) {
				t.Errorf("%q is taken for a cursor", cursor)
			}
			for _, row := range page.Data {
				if foreign[row.ID] || lists[i] != "events" && row.ID >= string(after) {
					t.Errorf("%q gives %s", cursor, row.ID)
				}
			}
		default:
			t.Errorf("%q is answered with %d %s", cursor, answer.status, answer.body)
		}
	})
}

// populate makes two rows in each list of the key's tenant; those of the events and deliveries come when the watches
// expire.
func (r fuzzed) populate(key string) {
	r.t.Helper()
	for range 2 {
		r.made(key, "/v1/keys", `{"name":"k","scopes":["read"]}`)
		r.watch(key, r.made(key, "/v1/credentials", `{"name":"c","api_token":"t"}`), r.webhook(key))
	}
}

// ids are those in a list.
func (r fuzzed) ids(key, list string) (all []string) {
	r.t.Helper()
	var page struct{ Data []struct{ ID string } }
	must(r.t, json.Unmarshal(r.do(key, http.MethodGet, "/v1/"+list, "").body, &page))
	if len(page.Data) < 2 {
		r.t.Fatalf("%d %s: nothing could be seen to leak", len(page.Data), list)
	}
	for _, row := range page.Data {
		all = append(all, row.ID)
	}
	return all
}

// cursor is the one after the first row of a list.
func (r fuzzed) cursor(key, list string) string {
	r.t.Helper()
	var page struct {
		Next string `json:"next_cursor"`
	}
	must(r.t, json.Unmarshal(r.do(key, http.MethodGet, "/v1/"+list+"?limit=1", "").body, &page))
	return page.Next
}
