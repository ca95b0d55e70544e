package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
)

// misplace sends secrets where they do not belong.
func (d *drive) misplace(destination, credential string) {
	d.t.Helper()
	secret := d.hunt.invent("a misplaced secret")
	url := func(u string) string { return `{"type":"webhook","name":"x","url":"` + u + `"}` }
	for _, body := range []string{
		`{"name":"x","api_token":"` + secret, `{"name":"x","api_token":["` + secret + `"]}`, `"` + secret + `"`, secret,
		`{"name":"x","api_token":"` + secret + ` x\n"}`, `{"name":"x","email":"` + secret + `","api_token":"` + secret + `"}`,
		`{"name":"` + secret + strings.Repeat("x", 300) + `","api_token":1}`,
		url("http://" + secret + ":" + secret + "@127.0.0.1/"), url("http://10.0.0.1/" + secret), url("ftp://" + secret), url(secret),
		url("http://127.0.0.1:" + secret + "/"), url("http://[" + secret + "/"),
		`{"type":"` + secret + `","name":"x"}`, `{"type":"webhook","name":"x","url":"http://127.0.0.1/","secret":"` + secret + `"}`,
		`{"type":"webhook","name":"x","url":"http://127.0.0.1/","secret":"whsec_` + secret + `!"}`,
		`{"type":"webhook","name":"x","url":"http://127.0.0.1/","headers":{"X":"` + secret + `\r\nY: z","Host":"` + secret + `"}}`,
		`{"type":"slack","name":"x","webhook_url":"http://10.0.0.1/` + secret + `"}`,
		`{"type":"slack","name":"x","bot_token":"` + secret + ` x","channel":"` + secret + ` x"}`,
		`{"type":"slack","name":"x","bot_token":"` + secret + `","webhook_url":"` + secret + `"}`,
		`{"operation_id":"../` + secret + `","account_id":"` + secret + `","credential_id":"` + secret + `","destination_ids":["` + secret + `"]}`,
		`{"operation_id":"` + newOperationID() + `","account_id":"` + testAccount + `","credential_id":"` + secret + `","destination_ids":["` +
			destination + `"],"events":["` + secret + `"],"timeout_seconds":"` + secret + `"}`,
		`{"since":"` + secret + `"}`, `{"overlap_seconds":"` + secret + `"}`, `{"scopes":["` + secret + `"],"name":"x"}`,
	} {
		for _, path := range []string{
			"/v1/credentials", "/v1/destinations", "/v1/watches", "/v1/keys",
			"/v1/destinations/" + destination + "/rotate-secret", "/v1/destinations/" + destination + "/recover",
		} {
			if status, answer := d.do(http.MethodPost, path, body); status < 400 {
				d.t.Errorf("%s is answered %d %s", body, status, answer)
			}
		}
		if status, answer := d.do(http.MethodPatch, "/v1/destinations/"+destination, body); status < 400 {
			d.t.Errorf("PATCH with %s is answered %d %s", body, status, answer)
		}
	}
	for _, path := range []string{
		"/v1/credentials/%s", "/v1/destinations/%s", "/v1/watches/%s", "/v1/events?after=%s", "/v1/watches?cursor=%s&limit=%[1]s",
		"/v1/watches?status=%s&wait=%[1]s", "/v1/deliveries?status=%s", "/%s", "/v1/%s?key=%[1]s", "/metrics?%s", "/v1/events/%s",
		"/v1/watches/x?wait=%s", "/docs/%s", "/healthz?%s",
	} {
		d.do(http.MethodGet, fmt.Sprintf(path, secret), "")
		d.do(http.MethodDelete, fmt.Sprintf(path, secret), "")
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + secret, "Content-Type": secret, "Idempotency-Key": secret + strings.Repeat("x", 300),
		"Cookie": secret, "Last-Event-ID": secret, "X-Request-Id": secret + " x", "Accept": secret, "Content-Encoding": secret,
	} {
		d.do(http.MethodPost, "/v1/credentials", `{"name":"x","api_token":"x"}`, name, value)
		d.do(http.MethodGet, "/v1/watches", "", name, value)
	}
	d.do(http.MethodGet, "/v1/watches", "", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(secret+":"+secret)))
	d.do(http.MethodDelete, "/v1/credentials/"+credential, "") // in use
}

// commands are all there are, well and badly called.
func (d *drive) commands(env environment) {
	d.t.Helper()
	words := [][]string{
		{},
		{"serve"},
		{"api"},
		{"worker"},
		{"migrate"},
		{"migrate", "up"},
		{"migrate", "status"},
		{"keys"},
		{"keys", "create"},
		{"keys", "list"},
		{"keys", "revoke"},
		{"keys", "rotate-encryption"},
		{"keys", "new-encryption"},
		{"watch"},
		{"wait"},
		{"listen"},
		{"simulate"},
		{"demo"},
		{"healthcheck"},
		{"environment"},
	}
	for _, command := range words {
		d.command(env, append(command, "--help")...)
		d.command(env, append(command, "--no-such-flag="+d.hunt.invent("a faulty flag"))...)
	}
	d.command(env, "config", "variables")
	d.command(env, "version")
	d.command(env, "migrate", "status")
	d.command(env, "keys", "list")
	d.command(env, "keys", "list", "--json")
	d.command(env, "keys", "revoke", d.key)
	d.command(env, "keys", "rotate-encryption")
	secret := d.hunt.invent("a secret in a faulty setting")
	for name, values := range map[string][]string{
		"RELAY_DATABASE_URL": {
			secret, "postgres://u:" + secret + "@h:port/x", "postgres://u:" + secret + "@h/x?sslmode=" + secret, "mysql://u:" + secret + "@h",
			"sqlite://" + secret, "postgres://u:" + secret + "@127.0.0.1:1/x", "postgres://u:%" + secret + "@h/",
		},
		"RELAY_REDIS_URL": {
			secret, "redis://:" + secret + "@h:port", "redis://:" + secret + "@h/x", "redis-cluster://:" + secret + "@", "rediss://u:%" + secret + "@h",
			"redis-sentinel://:" + secret + "@h?x=" + secret, "redis://:" + secret + "@127.0.0.1:1/0?dial_timeout=" + secret,
		},
		"RELAY_ENCRYPTION_KEYS": {secret, "k1:" + secret, "k1:" + secret + ",k1:" + secret, secret + ":", "k 1:" + secret},
		"RELAY_CLOUDFLARE_URL":  {"https://u:" + secret + "@h/", "https://h/?token=" + secret},
		"RELAY_SLACK_URL":       {"https://u:" + secret + "@h/", "https://h/#" + secret},
		"RELAY_CONSOLE_URL":     {"https://u:" + secret + "@h/"},
	} {
		for _, value := range values {
			faulty := env.with("RELAY_LISTEN", "127.0.0.1:99999", name, value) // which no role survives
			for _, command := range [][]string{{"serve"}, {"api"}, {"worker"}, {"keys", "list"}, {"migrate", "status"}} {
				d.command(faulty, command...)
			}
			d.command(env, "serve", "--listen", "127.0.0.1:99999", "--"+strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "RELAY_"), "_", "-"))+"="+value)
		}
	}
}

// command runs a command to its end and keeps what it printed.
func (d *drive) command(env environment, args ...string) {
	d.t.Helper()
	done := call(d.t.Context(), env, args...)
	named := "relay " + strings.Join(args[:min(2, len(args))], " ")
	d.hunt.keep("stdout of "+named, []byte(done.stdout))
	d.hunt.keep("stderr of "+named, []byte(done.stderr))
}
