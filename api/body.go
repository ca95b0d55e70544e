package api

import (
	v1 "encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/labstack/echo/v4"
)

const (
	contentTypeJSON = "application/json"
	maxBody         = 1 << 20
	// smallBody is what a body may have in bytes to be validated at once: a watch, or some sixty.
	smallBody = 16 << 10
	// maxValidating bounds the larger bodies that are validated at the same time: 1 MiB in which everything is
	// wrong takes some tens of MB until it is. They wait after they were read, so a slow sender holds up nobody; how
	// many a key may send at a time is bounded like the requests that wait for a watch.
	maxValidating = 2
)

// notJSONError says why a body is not the JSON that the API reads.
type notJSONError struct {
	reason string
}

func (e *notJSONError) Error() string { return "the body is not JSON: " + e.reason }

// readBody reads the body of an operation that takes one, and validates it.
func (s *Server) readBody(c echo.Context, r *request) error {
	req := c.Request()
	if r.operation.body == nil || !r.operation.bodyRequired && req.ContentLength == 0 {
		return nil
	}
	if err := checkContentType(req.Header); err != nil {
		return err
	}
	if req.ContentLength > maxBody {
		return errTooLarge
	}
	if large := req.ContentLength < 0 || req.ContentLength > smallBody; large {
		if !s.largeBodies.enter(r.key.ID) {
			return errTooManyWaiting
		}
		defer s.largeBodies.leave(r.key.ID)
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), req.Body, maxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return errTooLarge
	}
	if err != nil {
		return &notJSONError{reason: "The body broke off before its end."}
	}
	if r.body = body; len(body) > smallBody {
		select {
		case s.validating <- struct{}{}:
			defer func() { <-s.validating }()
		case <-req.Context().Done():
			return req.Context().Err()
		}
	}
	return r.validate()
}

func checkContentType(header http.Header) error {
	if encoding := header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return errNotJSONType
	}
	mediaType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || mediaType != contentTypeJSON {
		return errNotJSONType
	}
	return nil
}

// validate finds what the document refuses about the body. Only a body that is not JSON is an error: the
// faults wait for decode, to be told together with those that the handler finds.
func (r *request) validate() error {
	if len(r.body) == 0 && !r.operation.bodyRequired {
		return nil
	}
	tree, err := parseJSON(r.body)
	if err != nil {
		return err
	}
	p := pruner{faults: &r.faults}
	r.tree = p.prune(r.operation.body, tree)
	r.faults.addSchema(r.operation.body, r.operation.body.VisitJSON(r.tree, r.operation.options...))
	return nil
}

// decode reads the body into its generated type and returns what the document finds wrong with it. Fields of
// a wrong type stay zero, so that the handler can go on and find what else is wrong with the others.
func (r *request) decode(into any) *faults {
	if r.tree == nil || len(r.faults.list) == 0 && json.Unmarshal(r.body, into) == nil {
		return &r.faults
	}
	// encoding/json reads on after a value of a wrong type; and to the document 60.0 is a whole number, which
	// it writes as 60.
	plain, err := v1.Marshal(r.tree)
	if err == nil {
		err = v1.Unmarshal(plain, into)
	}
	if err != nil && len(r.faults.list) == 0 {
		r.faults.addf("", "holds a value that cannot be read")
	}
	return &r.faults
}

// parseJSON reads a body into maps, slices, strings, float64, bool and nil. Unlike encoding/json it refuses a
// field that is given twice and bytes or escapes that are no character, which every reader takes differently.
func parseJSON(body []byte) (tree any, err error) {
	err = json.Unmarshal(body, &tree)
	if errors.Is(err, strconv.ErrRange) {
		// The largest number there is stands for those beyond, so that the document's limits refuse them.
		err = json.Unmarshal(body, &tree, json.WithUnmarshalers(json.UnmarshalFromFunc(readNumber)))
	}
	if err == nil {
		return tree, nil
	}
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case len(body) == 0:
		return nil, &notJSONError{reason: "The body is empty."}
	case !ok || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, &notJSONError{reason: "It ends too early."}
	case errors.Is(err, jsontext.ErrDuplicateName):
		name, place := strconv.QuoteToGraphic(shorten(syntax.JSONPointer.LastToken())), ""
		if parent := syntax.JSONPointer.Parent(); parent != "" {
			place = " in " + strconv.QuoteToGraphic(shorten(string(parent)))
		}
		return nil, &notJSONError{reason: fmt.Sprintf("The field %s is given twice%s.", name, place)}
	}
	// What is quoted in the library's words is of the body, which may hold a secret.
	fault, _, _ := strings.Cut(syntax.Err.Error(), "`")
	return nil, &notJSONError{reason: fmt.Sprintf("At byte %d: %s.", syntax.ByteOffset+1, strings.TrimSpace(fault))}
}

func readNumber(from *jsontext.Decoder, number *float64) error {
	token, err := from.ReadToken()
	if err != nil {
		return err
	}
	value, _ := token.Float()
	*number = max(min(value, math.MaxFloat64), -math.MaxFloat64)
	return nil
}

// pruner refuses what the library that checks schemas does not name: unknown fields and control characters.
// And it leaves of a value no more than shows that it is wrong, so that a body makes no more faults than the
// largest one that is right could: 1 MiB may hold 349,000 empty watches.
type pruner struct {
	faults *faults
	path   []string
}

func (p *pruner) fault(detail string) { p.faults.addf(at(p.path...), "%s", detail) }

// prune returns what is left of a value.
func (p *pruner) prune(schema *openapi3.Schema, value any) any {
	switch value := value.(type) {
	case string:
		if schema.Type.Is(openapi3.TypeString) && strings.ContainsFunc(value, isControl) {
			p.fault("must not hold control characters")
		}
	case []any:
		if !schema.Type.Is(openapi3.TypeArray) {
			return []any{}
		}
		if most := atMost(schema.MaxItems); uint64(len(value)) > most {
			value = slices.Clone(value[:most]) // lets go of the rest
		}
		for i, item := range value {
			p.path = append(p.path, strconv.Itoa(i))
			value[i] = p.prune(schema.Items.Value, item)
			p.path = p.path[:len(p.path)-1]
		}
		return value
	case map[string]any:
		if !schema.Type.Is(openapi3.TypeObject) {
			return map[string]any{}
		}
		p.object(schema, value)
	}
	return value
}

func (p *pruner) object(schema *openapi3.Schema, object map[string]any) {
	most := atMost(schema.MaxProps)
	for i, name := range sortedKeys(object) {
		field := schema.Properties[name]
		if field == nil {
			field = schema.AdditionalProperties.Schema
		}
		p.path = append(p.path, name)
		switch {
		case field == nil && p.faults.more:
			delete(object, name)
		case field == nil:
			p.fault("is not a field of this request" + oneOf("; known: ", sortedKeys(schema.Properties)))
			delete(object, name)
		case uint64(i) >= most:
			delete(object, name)
		case strings.ContainsFunc(name, unicode.IsControl):
			p.fault("must not have control characters in its name")
		default:
			object[name] = p.prune(field.Value, object[name])
		}
		p.path = p.path[:len(p.path)-1]
	}
}

// atMost is how many items or fields are kept: one more than may be is refused like a thousand more.
func atMost(limit *uint64) uint64 {
	if limit == nil {
		return math.MaxInt32
	}
	return *limit + 1
}

// isControl spares tabs and line breaks, which text of several lines needs. PostgreSQL cannot store a NUL, and
// a terminal or a log should not obey a name.
func isControl(r rune) bool {
	return unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r'
}
