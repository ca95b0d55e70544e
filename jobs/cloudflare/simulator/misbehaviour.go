package simulator

import (
	"cmp"
	"net/http"
	"time"

	"oprelay/jobs/source/simulator"
)

// misbehaviour is one way of spoiling an honest answer.
type misbehaviour struct {
	name, does string
	apply      func(Misbehaviour, *answer)
}

// Misbehaviours are the names that a [Misbehaviour] can have.
func Misbehaviours() []string {
	var names []string
	for _, m := range misbehaviours() {
		names = append(names, m.name)
	}
	return names
}

const htmlPage = "<!DOCTYPE html>\n<html><head><title>Error</title></head><body><center><h1>Bad gateway</h1></center></body></html>\n"

// misbehaviours is the table of them all, in the order in which GET / lists them.
func misbehaviours() []misbehaviour {
	return []misbehaviour{
		{"success_false", "200 with success:false", func(_ Misbehaviour, a *answer) {
			*a = *failure(http.StatusOK, 7003, "No route for the URI").keep(a.header)
		}},
		{"result_missing", "200 without a result", func(_ Misbehaviour, a *answer) {
			a.body(http.StatusOK, "application/json", `{"success":true,"errors":[],"messages":[]}`)
		}},
		{"result_array", "200 with result as an array", func(_ Misbehaviour, a *answer) {
			a.envelope.Result = []any{}
		}},
		{"foreign_id", "the result of another operation", func(_ Misbehaviour, a *answer) {
			a.result(func(r *operationResult) { r.ID = "ffffffffffffffffffffffffffffffff" })
		}},
		{"unknown_status", "a status outside the four", func(_ Misbehaviour, a *answer) {
			a.result(func(r *operationResult) { r.Status = "queued" })
		}},
		{"completed_empty", `completed:"" at the end`, func(_ Misbehaviour, a *answer) {
			a.result(func(r *operationResult) {
				if r.Completed != nil {
					*r.Completed = ""
				}
			})
		}},
		{"completed_absent", "no completed at the end", func(_ Misbehaviour, a *answer) {
			a.result(func(r *operationResult) { r.Completed = nil })
		}},
		{"html", "200 with an HTML page", func(_ Misbehaviour, a *answer) {
			a.body(http.StatusOK, "text/html; charset=UTF-8", htmlPage)
		}},
		{"status", "the given status (default 502) with an HTML page", func(m Misbehaviour, a *answer) {
			a.body(cmp.Or(m.Status, http.StatusBadGateway), "text/html; charset=UTF-8", htmlPage)
		}},
		{"unauthorized", "401; with for: spurious for a while", func(_ Misbehaviour, a *answer) {
			*a = *failure(http.StatusUnauthorized, 10000, "Authentication error").keep(a.header)
		}},
		{"forbidden", "403; with for: spurious for a while", func(_ Misbehaviour, a *answer) {
			*a = *failure(http.StatusForbidden, 9109, "Unauthorized to access requested resource").keep(a.header)
		}},
		{"bad_credential", "400, as for a token of the wrong form", func(_ Misbehaviour, a *answer) {
			*a = *failure(http.StatusBadRequest, 6003, "Invalid request headers").keep(a.header)
			a.envelope.Errors[0].Chain = []apiError{{Code: 6111, Message: "Invalid format for Authorization header"}}
		}},
		{"blocked", "403 with an HTML page, as of a firewall before the API", func(_ Misbehaviour, a *answer) {
			a.body(http.StatusForbidden, "text/html; charset=UTF-8", htmlPage)
		}},
		{"refusal", "the given status (default 400) with the given code (default 9106)", func(m Misbehaviour, a *answer) {
			*a = *failure(cmp.Or(m.Status, http.StatusBadRequest), cmp.Or(m.Code, 9106),
				"Missing X-Auth-Key, X-Auth-Email or Authorization headers").keep(a.header)
		}},
		{"not_found", "404; with for: unknown until then", func(_ Misbehaviour, a *answer) {
			*a = *failure(http.StatusNotFound, 7003, "No route for the URI").keep(a.header)
		}},
		{"rate_limited", "429", func(_ Misbehaviour, a *answer) {
			*a = *failure(http.StatusTooManyRequests, 10100, "Rate limited").keep(a.header)
		}},
		{"redirect", "the given status (default 302) to location", func(m Misbehaviour, a *answer) {
			a.body(cmp.Or(m.Status, http.StatusFound), "text/plain", "elsewhere\n")
			a.header.Set("Location", cmp.Or(m.Location, "https://elsewhere.invalid/"))
		}},
		{"slow", "honest after delay (default 5s)", func(m Misbehaviour, a *answer) {
			a.delay = cmp.Or(m.Delay, 5*time.Second)
		}},
		{"hang", "no answer, for as long as the client waits", func(_ Misbehaviour, a *answer) { a.ending = simulator.Hangs }},
		{"endless", "a body without end", func(_ Misbehaviour, a *answer) { a.ending = simulator.NeverEnds }},
		{"truncated", "a body cut in the middle", func(_ Misbehaviour, a *answer) { a.ending = simulator.BreaksOff }},
		{"reset", "the connection is reset", func(_ Misbehaviour, a *answer) { a.ending = simulator.Resets }},
		{"ratelimit_missing", "honest, without ratelimit headers", func(_ Misbehaviour, a *answer) {
			a.header.Del("Ratelimit")
			a.header.Del("Ratelimit-Policy")
		}},
		{"ratelimit_constant", "honest, with ratelimit headers that never change", func(_ Misbehaviour, a *answer) {
			a.header.Set("Ratelimit", `"default";r=1199;t=1`)
		}},
		{"ratelimit_exhausted", "honest, with ratelimit headers that say that nothing is left for an hour", func(_ Misbehaviour, a *answer) {
			a.header.Set("Ratelimit", `"default";r=0;t=3600`)
		}},
	}
}
