package cloudflare

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxErrors is how many of an envelope's errors a Problem names.
const maxErrors = 3

// envelope is what Cloudflare wraps every answer in. The published schema
// contradicts itself (result an array and an object at once), so every member
// is read for what it turns out to be.
type envelope struct {
	Success bool            `json:"success"`
	Errors  []apiError      `json:"errors"`
	Result  json.RawMessage `json:"result"`
}

type apiError struct {
	Code    int        `json:"code"`
	Message string     `json:"message"`
	Chain   []apiError `json:"error_chain"`
}

type operation struct {
	ID        string          `json:"id"`
	Status    string          `json:"status"`
	Completed string          `json:"completed"`
	Error     json.RawMessage `json:"error"`
}

// decodeResult reads the body of a 200. Whatever is wrong with it makes the
// answer Inconclusive: only an envelope that claims success, for the very
// operation asked about and with a known status, says anything about it.
func decodeResult(body []byte, operationID string) Answer {
	inconclusive := func(format string, args ...any) Answer {
		return Answer{Outcome: Inconclusive, Problem: fmt.Sprintf(format, args...)}
	}
	env, ok := decodeEnvelope(body)
	if !ok {
		return inconclusive("HTTP 200, %s", describe(body))
	}
	if !env.Success {
		return inconclusive("success is false%s", listErrors(": ", env.Errors))
	}
	switch {
	case len(env.Result) == 0 || string(env.Result) == "null":
		return inconclusive("result is missing")
	case env.Result[0] == '[':
		return inconclusive("result is an array")
	case env.Result[0] != '{':
		return inconclusive("result is no object")
	}
	var op operation
	if !unmarshal(env.Result, &op) {
		return inconclusive("result is malformed")
	}
	switch {
	case op.ID == "":
		return inconclusive("result.id is missing")
	case op.ID != operationID:
		return inconclusive("result.id is that of another operation: %q", op.ID)
	}
	switch op.Status {
	case StatusPending, StatusRunning:
		return Answer{Outcome: InProgress, Status: op.Status}
	case StatusCompleted:
		return Answer{Outcome: Terminal, Status: op.Status, CompletedAt: parseTime(op.Completed)}
	case StatusFailed:
		return Answer{Outcome: Terminal, Status: op.Status, CompletedAt: parseTime(op.Completed), Error: message(op.Error)}
	case "":
		return inconclusive("result.status is missing")
	}
	return inconclusive("result.status is unknown: %q", op.Status)
}

// decodeEnvelope reports whether the body is a JSON object.
func decodeEnvelope(body []byte) (envelope, bool) {
	var env envelope
	trimmed := strings.TrimLeft(string(body[:min(len(body), 64)]), " \t\r\n")
	if !strings.HasPrefix(trimmed, "{") || !unmarshal(body, &env) {
		return envelope{}, false
	}
	return env, true
}

// unmarshal forgives members of another type than expected: they stay zero, and
// the rest is decoded all the same.
func unmarshal(data []byte, v any) bool {
	err := json.Unmarshal(data, v)
	var mismatch *json.UnmarshalTypeError
	return err == nil || errors.As(err, &mismatch)
}

// message is an operation's error as text: a string's contents, and any other
// JSON as it stands, because half a reason is better than none.
func message(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// parseTime is zero for anything but an RFC 3339 time that JSON and SQL can
// hold after its move to UTC.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	if t = t.UTC(); t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// describe names a body that is not an envelope.
func describe(body []byte) string {
	start := strings.ToLower(strings.TrimLeft(string(body[:min(len(body), 64)]), "\ufeff \t\r\n"))
	switch {
	case start == "":
		return "empty body"
	case strings.HasPrefix(start, "<!doctype") || strings.HasPrefix(start, "<html"):
		return "HTML body"
	case strings.HasPrefix(start, "{") || strings.HasPrefix(start, "["):
		return "malformed JSON body"
	}
	return "body is no JSON"
}

// listErrors is "" without errors, else the prefix and the first few of them.
func listErrors(prefix string, errs []apiError) string {
	if len(errs) == 0 {
		return ""
	}
	var parts []string
	for _, e := range errs[:min(len(errs), maxErrors)] {
		part := fmt.Sprintf("%d %s", e.Code, e.Message)
		if len(e.Chain) > 0 {
			part += fmt.Sprintf(" (%d %s)", e.Chain[0].Code, e.Chain[0].Message)
		}
		parts = append(parts, strings.TrimSpace(part))
	}
	return prefix + strings.Join(parts, "; ")
}

// hasCode reports whether one of the errors has one of the codes.
func (e envelope) hasCode(codes ...int) bool {
	return slices.ContainsFunc(e.Errors, func(err apiError) bool { return slices.Contains(codes, err.Code) })
}
