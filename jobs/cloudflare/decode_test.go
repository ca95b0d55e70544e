package cloudflare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestDecodeResult(t *testing.T) {
	t.Parallel()
	at := time.Date(2020, 1, 1, 8, 0, 0, 0, time.UTC)
	ended := func(status string) Answer { return Answer{Outcome: Terminal, Status: status} }
	unclear := func(problem string) Answer { return Answer{Outcome: Inconclusive, Problem: problem} }
	for result, want := range map[string]Answer{
		`{"id":"op","status":"pending"}`:                                           {Outcome: InProgress, Status: StatusPending},
		`{"id":"op","status":"running","completed":"","error":""}`:                 {Outcome: InProgress, Status: StatusRunning},
		`{"id":"op","status":"running","completed":"2020-01-01T08:00:00Z"}`:        {Outcome: InProgress, Status: StatusRunning},
		`{"id":"op","status":"completed","completed":"2020-01-01T08:00:00Z"}`:      {Outcome: Terminal, Status: StatusCompleted, CompletedAt: at},
		`{"id":"op","status":"completed","completed":"2020-01-01T10:00:00+02:00"}`: {Outcome: Terminal, Status: StatusCompleted, CompletedAt: at},
		`{"id":"op","status":"completed"}`:                                         ended(StatusCompleted),
		`{"id":"op","status":"completed","completed":""}`:                          ended(StatusCompleted),
		`{"id":"op","status":"completed","completed":null,"error":null}`:           ended(StatusCompleted),
		`{"id":"op","status":"completed","completed":1577865600}`:                  ended(StatusCompleted),
		`{"id":"op","status":"completed","completed":"yesterday"}`:                 ended(StatusCompleted),
		`{"id":"op","status":"completed","completed":"9999-12-31T23:59:59-01:00"}`: ended(StatusCompleted),
		`{"id":"op","status":"completed","completed":"0000-01-01T00:00:00+01:00"}`: ended(StatusCompleted),
		`{"id":"op","status":"completed","error":"not about a completed one"}`:     ended(StatusCompleted),
		`{"id":"op","status":"failed"}`:                                            ended(StatusFailed),
		`{"id":"op","status":"failed","error":null}`:                               ended(StatusFailed),
		`{"id":"op","status":"failed","error":"why"}`:                              {Outcome: Terminal, Status: StatusFailed, Error: "why"},
		`{"id":"op","status":"failed","error":{"message":"why"}}`:                  {Outcome: Terminal, Status: StatusFailed, Error: `{"message":"why"}`},
		`{"id":"op","status":"failed","extra":{"deep":[1,2]}}`:                     ended(StatusFailed),
		`{"id":"op","status":"Completed"}`:                                         unclear(`result.status is unknown: "Completed"`),
		`{"id":"op","status":"queued"}`:                                            unclear(`result.status is unknown: "queued"`),
		`{"id":"op","status":7}`:                                                   unclear("result.status is missing"),
		`{"id":"op"}`:                                                              unclear("result.status is missing"),
		`{"status":"completed"}`:                                                   unclear("result.id is missing"),
		`{"id":7,"status":"completed"}`:                                            unclear("result.id is missing"),
		`{"id":"OP","status":"completed"}`:                                         unclear(`result.id is that of another operation: "OP"`),
		`{"id":"op ","status":"completed"}`:                                        unclear(`result.id is that of another operation: "op "`),
		`[]`:                                                                       unclear("result is an array"),
		`[{"id":"op","status":"completed"}]`:                                       unclear("result is an array"),
		`null`:                                                                     unclear("result is missing"),
		`"completed"`:                                                              unclear("result is no object"),
	} {
		body := fmt.Sprintf(` {"success":true,"errors":[],"messages":[{"code":10000,"message":"fine"}],"result":%s}`, result)
		if got := decodeResult([]byte(body), "op"); got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", result, got, want)
		}
	}
}

func TestDecodeEnvelope(t *testing.T) {
	t.Parallel()
	const good = `"result":{"id":"op","status":"completed"}`
	for body, problem := range map[string]string{
		`{"success":false,` + good + `}`:                            "success is false",
		`{` + good + `}`:                                            "success is false",
		`{"success":"true",` + good + `}`:                           "success is false",
		`{"success":false,"errors":[{"code":7003,"message":"No"}]}`: "success is false: 7003 No",
		`{"success":false,"errors":{"code":7003}}`:                  "success is false",
		`{"success":false,"errors":["a",{"code":"x"}]}`:             "success is false: 0; 0",
		`{"success":true,"errors":null}`:                            "result is missing",
		`{"success":true,` + good + `} trailing`:                    "HTTP 200, malformed JSON body",
		`{"success":true,` + good:                                   "HTTP 200, malformed JSON body",
		`[{"success":true}]`:                                        "HTTP 200, malformed JSON body",
		strings.Repeat(`{"success":`, 20_000):                       "HTTP 200, malformed JSON body",
		"":                                                          "HTTP 200, empty body",
		"\ufeff \n<!DOCTYPE HTML><title>":                           "HTTP 200, HTML body",
		"<html>":                                                    "HTTP 200, HTML body",
		"error code: 1015":                                          "HTTP 200, body is no JSON",
		"null":                                                      "HTTP 200, body is no JSON",
		"\x00\xff":                                                  "HTTP 200, body is no JSON",
	} {
		want := Answer{Outcome: Inconclusive, Problem: problem}
		if got := decodeResult([]byte(body), "op"); got != want {
			t.Errorf("%.60s:\n got %+v\nwant %+v", body, got, want)
		}
	}
}

// Whatever a body is, decoding neither panics nor lets anything through but the
// asked operation in one of its four states.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"testdata/seed-success.json", "testdata/seed-failure.json"} {
		body, err := os.ReadFile(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(200, body)
		f.Add(404, body)
	}
	f.Add(200, []byte(`{"success":true,"result":[{"id":"4da8780eeb215e6cb7f48dd981c4ea02"}]}`))
	f.Add(200, []byte(`{"success":true,"result":{"id":"4da8780eeb215e6cb7f48dd981c4ea02","status":"completed","completed":""}}`))
	f.Add(200, []byte(`{"success":false,"result":{"id":"4da8780eeb215e6cb7f48dd981c4ea02","status":"completed"}}`))
	f.Add(200, []byte(`{"success":true,"result":{"id":"ffffffffffffffffffffffffffffffff","status":"failed","error":"4da8780eeb215e6cb7f48dd981c4ea02"}}`))
	f.Add(200, []byte(`{"success":true,"result":{"id":"4da8780eeb215e6cb7f48dd981c4ea02","status":"queued"}}`))
	f.Add(502, []byte("<!DOCTYPE html>"))
	f.Add(400, []byte(`{"errors":[{"code":6003,"error_chain":[{"code":6111}]}]}`))
	const id = "4da8780eeb215e6cb7f48dd981c4ea02"
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		got := classify(&http.Response{StatusCode: status}, body, nil, id).clear(Credential{})
		concluded := got.Outcome == Terminal || got.Outcome == InProgress
		if concluded != (got.Problem == "") || concluded != (got.Status != "") {
			t.Errorf("half an answer: %+v", got)
		}
		ended := got.Status == StatusCompleted || got.Status == StatusFailed
		underWay := got.Status == StatusPending || got.Status == StatusRunning
		if ended != (got.Outcome == Terminal) || underWay != (got.Outcome == InProgress) {
			t.Errorf("no such outcome has such a status: %+v", got)
		}
		if concluded && (status != http.StatusOK || !concludes(body, id, got.Status)) {
			t.Errorf("concluded from %d %q: %+v", status, body, got)
		}
		if !utf8.ValidString(got.Problem+got.Error) || strings.ContainsRune(got.Error, 0) ||
			len(got.Error) > maxErrorBytes || len(got.Problem) > maxProblemBytes {
			t.Errorf("unfit to store: %+v", got)
		}
		if _, err := got.CompletedAt.MarshalJSON(); err != nil {
			t.Errorf("unfit to send: %v", err)
		}
	})
}

// BenchmarkDecodeResult decodes a poll's answer, without the HTTP around it.
func BenchmarkDecodeResult(b *testing.B) {
	for name, result := range map[string]string{
		"running": `{"id":"4da8","status":"running"}`,
		"failed": `{"id":"4da8","status":"failed","completed":"2020-01-01T08:00:00Z",` +
			`"error":"This list is at the maximum number of items"}`,
	} {
		body := []byte(`{"success":true,"errors":[],"messages":[],"result":` + result + `}`)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := decodeResult(body, "4da8"); got.Status != name {
					b.Fatalf("got %+v", got)
				}
			}
		})
	}
}

// concludes reports, read in another way than the program's, whether a body claims
// success, and a result of that id and status. Where it says so twice, once is enough.
func concludes(body []byte, id, status string) bool {
	return hasMember(body, "success", is(true)) && hasMember(body, "result", func(result json.RawMessage) bool {
		return hasMember(result, "id", is(id)) && hasMember(result, "status", is(status))
	})
}

func is(want any) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		var value any
		return json.Unmarshal(raw, &value) == nil && value == want
	}
}

// hasMember reports whether a JSON object has such a member of that name. Names that
// differ in the case of their letters are the same.
func hasMember(object []byte, name string, such func(json.RawMessage) bool) bool {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return false
	}
	for decoder.More() {
		found, err := decoder.Token()
		var value json.RawMessage
		if err != nil || decoder.Decode(&value) != nil {
			return false
		}
		if text, is := found.(string); is && strings.EqualFold(text, name) && such(value) {
			return true
		}
	}
	return false
}
