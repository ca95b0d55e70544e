package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"oprelay/notifier"
)

// drive uses a relay in every way, with secrets that are hunted for.
type drive struct {
	*system
	*hostile

	hunt *hunt
}

// everything needs the API up. env is the commands'.
func (d *drive) everything(env environment) {
	d.t.Helper()
	credentials := d.credentials()
	webhooks, slacks := d.destinations()
	d.rotate(webhooks[0])
	all := append(slices.Clone(webhooks), slacks...)
	watches := 0
	register := func(credential, operation string, destinations ...string) {
		d.make("/v1/watches", map[string]any{
			"account_id": testAccount, "operation_id": operation, "credential_id": credential, "destination_ids": destinations,
			"metadata": map[string]string{"deploy": "42"},
		})
		watches++
	}
	register(credentials[0], d.operation(0), all...)
	register(credentials[1], d.operation(http.StatusOK), all...)
	for i, status := range []int{http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusNotFound} {
		register(credentials[2+i], d.operation(status), webhooks[0])
	}
	for _, id := range all {
		d.do(http.MethodPost, "/v1/destinations/"+id+"/test", "{}")
	}
	d.misplace(webhooks[0], credentials[0])
	d.settle(len(all))
	d.look()
	d.commands(env)
	for _, r := range append(d.workers, d.server) {
		line, err := os.ReadFile("/proc/" + strconv.Itoa(r.PID()) + "/cmdline")
		if err != nil {
			d.t.Error(err)
		}
		d.hunt.keep("the command line", line)
	}
	if text := d.metrics(); !strings.Contains(text, "relay_delivery_attempts_total") {
		d.t.Errorf("the metrics are\n%s", text)
	}
}

func (d *drive) credentials() (ids []string) {
	ids = append(ids,
		d.make("/v1/credentials", map[string]any{"name": "token", "api_token": d.hunt.invent("a token")}),
		d.make("/v1/credentials", map[string]any{
			"name": "key", "email": d.hunt.invent("an email") + "@example.com", "api_key": d.hunt.invent("an API key of Cloudflare's"),
		}))
	for i := range 4 {
		ids = append(ids, d.make("/v1/credentials", map[string]any{"name": "more", "api_token": d.hunt.invent(fmt.Sprint("token ", i))}))
	}
	return ids
}

// destinations are one of every kind that goes well, and many that do not.
func (d *drive) destinations() (webhooks, slacks []string) {
	given := notifier.NewSecret()
	encoded := strings.TrimPrefix(given, "whsec_")
	d.hunt.addSeenKey("a given signing secret", encoded, 1, only("the answer to POST /v1/destinations"))
	// The query of a URL is shown with its destination, and nowhere else.
	query := d.hunt.inventSeen("the query of a URL", func(where string) bool {
		return strings.HasPrefix(where, "the answer to") && strings.Contains(where, "/v1/destinations") || strings.HasPrefix(where, "the database")
	})
	headers := func() map[string]string {
		return map[string]string{
			"Authorization": "Bearer " + d.hunt.invent("a token in a header"),
			"X-Api-Key":     d.hunt.invent("a header's value") + `"\&<>`,
		}
	}
	webhook := func(url string, more map[string]any) string {
		body := map[string]any{"type": "webhook", "name": "hook", "url": url + "/x?token=" + query, "headers": headers(), "alerts": len(webhooks) == 0}
		maps.Copy(body, more)
		return d.make("/v1/destinations", body)
	}
	webhooks = append(webhooks, webhook(d.hostileURL+"/ok", map[string]any{"secret": given}))
	for _, how := range []string{"hang", "cut", "moved", "gone", "busy", "forbidden", "broken"} {
		webhooks = append(webhooks, webhook(d.hostileURL+"/"+how, nil))
	}
	closed := serve(d.t, http.NotFoundHandler())
	for _, url := range []string{
		strings.Replace(d.hostileURL, "http", "https", 1), "http://127.0.0.1:1", strings.Replace(closed, "http", "https", 1),
	} {
		webhooks = append(webhooks, webhook(url, nil))
	}
	for _, channel := range []string{"C0OK", "C0REFUSED", "C0ODD", "C0BROKEN"} {
		slacks = append(slacks, d.make("/v1/destinations", map[string]any{
			"type": "slack", "name": "bot", "channel": channel, "bot_token": "xoxb-" + d.hunt.invent("a bot's token for "+channel),
		}))
	}
	for _, how := range []string{"ok", "gone", "forbidden", "hang"} {
		slacks = append(slacks, d.make("/v1/destinations", map[string]any{
			"type": "slack", "name": "incoming", "webhook_url": d.hostileURL + "/services/" + how + "/" + d.hunt.invent("Slack's URL, "+how),
		}))
	}
	return webhooks, slacks
}

// rotate has a destination's secrets made, changed and shown, with the answers
// that an Idempotency-Key repeats, and makes an API key.
func (d *drive) rotate(destination string) {
	d.t.Helper()
	generated := `{"type":"webhook","name":"x","url":"` + d.hostileURL + `/ok/x"}`
	for path, body := range map[string]string{
		"/v1/destinations": generated,
		"/v1/destinations/" + destination + "/rotate-secret": `{}`,
		"/v1/keys": `{"name":"x","scopes":["read"]}`,
	} {
		var answer struct{ Secret, Key string }
		for range 2 {
			status, shown := d.do(http.MethodPost, path, body, "Idempotency-Key", "once "+path)
			if err := json.Unmarshal(shown, &answer); err != nil || status >= 300 || answer.Key+answer.Secret == "" {
				d.t.Fatalf("%s: %d %s", path, status, shown)
			}
		}
		place := only("the answer to POST " + path)
		if encoded, signs := strings.CutPrefix(answer.Secret, "whsec_"); signs {
			d.hunt.addSeenKey("what "+path+" shows", encoded, 2, place)
		} else {
			d.hunt.addSeen("what "+path+" shows", answer.Key, 2, place)
		}
	}
	status, body := d.do(http.MethodPatch, "/v1/destinations/"+destination,
		`{"headers":{"Authorization":"Basic `+base64.StdEncoding.EncodeToString([]byte("user:"+d.hunt.invent("a password in a header")))+`"}}`)
	if status != http.StatusOK {
		d.t.Fatalf("%d %s", status, body)
	}
}

// settle waits until all that is to happen has happened.
func (d *drive) settle(destinations int) {
	d.t.Helper()
	eventually(d.t, time.Minute, "the upstream was asked, and every delivery has its last attempt", func() bool {
		_, body := d.ask(http.MethodGet, "/v1/deliveries?limit=200", "")
		return d.allAsked() && !bytes.Contains(body, []byte(`"pending"`)) && bytes.Count(body, []byte(`"status"`)) >= 2*destinations
	})
}

// look reads everything that the API shows.
func (d *drive) look() {
	d.t.Helper()
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics", "/openapi.yaml", "/docs"} {
		d.do(http.MethodGet, path, "")
	}
	echoes := 0
	for _, list := range []string{"credentials", "destinations", "watches", "events", "deliveries", "keys"} {
		var page struct {
			Data []struct{ ID string }
		}
		_, body := d.do(http.MethodGet, "/v1/"+list+"?limit=200", "")
		if err := json.Unmarshal(body, &page); err != nil || len(page.Data) == 0 {
			d.t.Errorf("%s: %v in %s", list, err, body)
		}
		for _, one := range page.Data {
			if list == "keys" {
				continue
			}
			_, shown := d.do(http.MethodGet, "/v1/"+list+"/"+one.ID, "")
			echoes += strings.Count(string(shown), "[masked]") + strings.Count(string(shown), "[redacted]")
		}
	}
	// Or the test's world is less hostile than it should be.
	if echoes < 10 {
		d.t.Errorf("%d echoes of secrets were masked, want many", echoes)
	}
}

// make is do for what must succeed, and the id of what was made.
func (d *drive) make(path string, body any) (id string) {
	d.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		d.t.Fatal(err)
	}
	status, answer := d.do(http.MethodPost, path, string(text))
	var made struct{ ID string }
	if err := json.Unmarshal(answer, &made); err != nil || status != http.StatusCreated {
		d.t.Fatalf("POST %s %s\nis answered %d %s", path, text, status, answer)
	}
	return made.ID
}

// do sends a request with the admin's key unless told otherwise, and keeps the answer.
func (d *drive) do(method, path, body string, headers ...string) (status int, answer []byte) {
	d.t.Helper()
	all, answer := d.ask(method, path, body, headers...)
	place, _, _ := strings.Cut(path, "?")
	d.hunt.keep("the answer to "+method+" "+place, all.dump)
	return all.status, answer
}

// asked is an answer's status, and all of it.
type asked struct {
	status int
	dump   []byte
}

func (d *drive) ask(method, path, body string, headers ...string) (asked, []byte) {
	d.t.Helper()
	request, err := http.NewRequestWithContext(d.t.Context(), method, "http://"+d.server.address+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+d.key)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	dump, err := httputil.DumpResponse(response, true)
	if err != nil {
		d.t.Fatal(err)
	}
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return asked{response.StatusCode, dump}, answer
}

// metrics are those of all processes.
func (d *drive) metrics() string {
	d.t.Helper()
	var all strings.Builder
	for _, r := range append(d.workers, d.server) {
		_, text := scrape(d.t, r)
		d.hunt.keep("metrics", []byte(text))
		all.WriteString(text)
	}
	return all.String()
}
