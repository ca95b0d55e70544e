package api

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/labstack/echo/v4"
)

func TestParseJSON(t *testing.T) {
	t.Parallel()
	tests := []struct {
		body string
		want any // nil: refused
	}{
		{`{"a":[1,true,null,"x",{}]}`, map[string]any{"a": []any{1.0, true, nil, "x", map[string]any{}}}},
		{` "x" `, "x"},
		{`[]`, []any{}},
		{`{"a":1,"A":2}`, map[string]any{"a": 1.0, "A": 2.0}},
		{`{"a":1,"a":1}`, nil},
		{`{"a":1,"\u0061":1}`, nil},
		{`{"a":{"b":1,"b":2}}`, nil},
		{`[1,]`, nil},
		{`{"a" 1}`, nil},
		{`{} {}`, nil},
		{`{}]`, nil},
		{"\xef\xbb\xbf{}", nil},
		{``, nil},
		{`NaN`, nil},
		{`"\ud83d\ude00 \u00e9 \\ud800 \"\\"`, `😀 é \ud800 "\`},
		{`"\uFFFD"`, "\uFFFD"},
		{`{"a":"\ud800"}`, nil},
		{`{"\ud800":1}`, nil},
		{`"\udc00"`, nil},
		{`"\ud83d\ud83d\ude00"`, nil},
		{`"\ud83dx\ude00"`, nil},
		{`"\ud83d\n\ude00"`, nil},
		{`"\\\uDBFF"`, nil},
		{strings.Repeat("[", 10001) + strings.Repeat("]", 10001), nil},
		{`[1e999,-1e999,0.5]`, []any{math.MaxFloat64, -math.MaxFloat64, 0.5}},
		{`[1e999,]`, nil},
	}
	for _, test := range tests {
		got, err := parseJSON([]byte(test.body))
		if (err == nil) != (test.want != nil) || !reflect.DeepEqual(got, test.want) && err == nil {
			t.Errorf("%s: %v, %v; want %v", test.body, got, err, test.want)
		}
	}
}

// What is refused by its place is held to be JSON all the same, and one of its faults stands for it.
func TestWhatIsRefusedIsRead(t *testing.T) {
	t.Parallel()
	document, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	const unknown = "is not a field of this request"
	for _, test := range []struct {
		body string
		want []Fault // nil: not JSON
	}{
		{`{"a":{"b":[1,{"c":"d"},[]]},"e":"x"}`, []Fault{{unknown, "/a"}, {unknown, "/e"}}},
		{`[{"a":1},[2]]`, []Fault{{"must be an object", ""}}},
		{`{"a":{"b":1,"b":2}}`, nil},
		{`[{"b":1,"b":2}]`, nil},
		{`[1,]`, nil},
		{`{"a":[1}`, nil},
		{`{"a":[1]`, nil},
		{`["\ud800"]`, nil},
		{`{"a":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}`, []Fault{{unknown, "/a"}}},
		{`{"a":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`, nil},
	} {
		r := &request{operation: document.operations["testDestination"], body: []byte(test.body)}
		err := r.validate()
		if (err == nil) != (test.want != nil) || err == nil && !slices.Equal(r.faults.list, test.want) {
			t.Errorf("%.100s: %v, %v; want %v", test.body, r.faults.list, err, test.want)
		}
	}
}

// A body that the document takes is read whole, however its numbers are written.
func TestAWholeNumberMayHaveAFraction(t *testing.T) {
	t.Parallel()
	document, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []string{"60", "60.0", "6e1"} {
		body := []byte(`{"operation_id":"4da8780eeb215e6cb7f48dd981c4ed02","account_id":"023e105f4ecef8ad9ca31a8372d0c353",
			"credential_id":"credential_01jd8p5kzve6wbdq8rfg0m3c7x","destination_ids":["destination_01jd8p5kzve6wbdq8rfg0m3c7x"],
			"metadata":{"deploy":"42"},"timeout_seconds":` + number + `}`)
		operation := document.operations["createWatch"]
		var read NewWatch
		r := &request{operation: operation, body: body}
		if err := r.validate(); err != nil {
			t.Fatal(err)
		}
		if err := r.decode(&read).err(); err != nil || or(read.TimeoutSeconds, 0) != 60 || len(read.DestinationIds) != 1 {
			t.Errorf("%s is read as %+v, %v", number, read, err)
		}
	}
}

// Two large bodies are validated at once. Another waits, unless its client hangs up; a small one does not wait.
func TestFewLargeBodiesAreValidatedAtOnce(t *testing.T) {
	t.Parallel()
	document, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := &Server{validating: make(chan struct{}, maxValidating)}
		read := func(ctx context.Context, body string) <-chan error {
			sent := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(body))
			sent.Header.Set(echo.HeaderContentType, contentTypeJSON)
			done := make(chan error, 1)
			go func() {
				done <- s.readBody(echo.New().NewContext(sent, httptest.NewRecorder()), &request{operation: document.operations["createWatch"]})
			}()
			synctest.Wait()
			return done
		}
		for range maxValidating {
			s.validating <- struct{}{} // as if one were validated
		}
		large := `{"name":"` + strings.Repeat("x", smallBody) + `"}`
		canceled, cancel := context.WithCancel(t.Context())
		gone, waiting := read(canceled, large), read(t.Context(), large)
		if err := <-read(t.Context(), `{}`); err != nil || len(gone)+len(waiting) > 0 {
			t.Errorf("a small one gets %v, and %d large ones do not wait", err, len(gone)+len(waiting))
		}
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("who hung up gets %v", err)
		}
		<-s.validating
		if err := <-waiting; err != nil || len(s.validating) != maxValidating-1 {
			t.Errorf("the next gets %v, and %d are validated", err, len(s.validating))
		}
	})
}

func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1e999,-0.1,"\ud800"]}`, `[{"a":{}}]`, `{"a":1,"a":2}`, "\xff", `[[[[`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		value, err := parseJSON(body)
		text, _ := value.(string)
		sent := bytes.ToLower(body)
		if err == nil && strings.Contains(text, "\uFFFD") && !bytes.Contains(sent, []byte("fffd")) && !bytes.Contains(sent, []byte("\uFFFD")) {
			t.Errorf("%s is read as %q", body, text)
		}
	})
}
