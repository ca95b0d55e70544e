package api

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// anything is a schema that keeps every value.
func anything() *openapi3.Schema {
	all := &openapi3.Schema{Type: &openapi3.Types{openapi3.TypeObject, openapi3.TypeArray}}
	all.Items = all.NewRef()
	all.AdditionalProperties.Schema = all.NewRef()
	return all
}

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
		{strings.Repeat("[", 40) + strings.Repeat("]", 40), nil},
	}
	for _, test := range tests {
		got, _, err := parseJSON(anything(), []byte(test.body))
		if (err == nil) != (test.want != nil) || !reflect.DeepEqual(got, test.want) && err == nil {
			t.Errorf("%s: %v, %v; want %v", test.body, got, err, test.want)
		}
	}
}

// What is not kept is held to be JSON all the same.
func TestWhatIsLeftOutIsRead(t *testing.T) {
	t.Parallel()
	none := openapi3.NewObjectSchema().WithoutAdditionalProperties()
	for _, test := range []struct {
		body string
		want any // nil: refused
	}{
		{`{"a":{"b":[1,{"c":"d"},[]]},"e":"x"}`, map[string]any{"a": nil, "e": nil}},
		{`[{"a":1},[2]]`, []any{}},
		{`{"a":{"b":1,"b":2}}`, nil},
		{`[{"b":1,"b":2}]`, nil},
		{`[1,]`, nil},
		{`{"a":[1}`, nil},
		{`{"a":[1]`, nil},
		{`["\ud800"]`, nil},
		{`{"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`, map[string]any{"a": nil}},
		{`{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`, nil},
	} {
		got, _, err := parseJSON(none, []byte(test.body))
		if (err == nil) != (test.want != nil) || !reflect.DeepEqual(got, test.want) && err == nil {
			t.Errorf("%s: %v, %v; want %v", test.body, got, err, test.want)
		}
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1e999,-0.1,"\ud800"]}`, `[{"a":{}}]`, `{"a":1,"a":2}`, "\xff", `[[[[`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		value, _, err := parseJSON(anything(), body)
		text, _ := value.(string)
		sent := bytes.ToLower(body)
		if err == nil && strings.Contains(text, "\uFFFD") && !bytes.Contains(sent, []byte("fffd")) && !bytes.Contains(sent, []byte("\uFFFD")) {
			t.Errorf("%s is read as %q", body, text)
		}
	})
}

func TestPointersAreEscaped(t *testing.T) {
	t.Parallel()
	if got := at("a/b", "m~n", 3, ""); got != "/a~1b/m~0n/3/" {
		t.Errorf("pointer %s", got)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	var f faults
	for i := range 2 * maxFaults {
		f.addf(at(i), "is wrong")
		f.addf(at(i), "is wrong in another way")
	}
	if err := f.err(); err == nil || err.Error() != "10000 values are wrong" || len(f.list) != maxFaults {
		t.Errorf("%v with %d listed", err, len(f.list))
	}
}
