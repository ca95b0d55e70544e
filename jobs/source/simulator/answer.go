package simulator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"oprelay/jobs/source"
)

// example is the first of the source's that has the verdict and an answer of its own; a
// pending operation may be running where there is none. It is nil if there is none.
func (s *Simulator) example(verdict source.Verdict) *source.Example {
	of := s.config.Source.Examples
	for i := range of {
		if of[i].As == verdict && of[i].HTTP/100 == 2 && json.Valid(of[i].Body) {
			return &of[i]
		}
	}
	return nil
}

// honest is an example's answer, about the operation that was asked for.
func (s *Simulator) honest(id string, began, now time.Time) *Response {
	verdict, ends := s.state(id, began, now)
	e := s.example(verdict)
	if e == nil { // pending, which a source need not know
		e = s.example(source.Running)
	}
	var body any
	decoder := json.NewDecoder(bytes.NewReader(e.Body))
	decoder.UseNumber()
	_ = decoder.Decode(&body)
	if of := s.config.Source; id != "" && of.ID != "" {
		replace(body, of.ID, func(old any) any { return like(old, id) })
	}
	for _, pointer := range s.config.Source.CompletedAt {
		replace(body, pointer, func(old any) any {
			if _, isNumber := old.(json.Number); isNumber {
				return ends.Unix()
			}
			return ends.UTC().Format(time.RFC3339)
		})
	}
	return answerOf(e, encode(body))
}

// refusal is an example of the upstream's with that status, or one without words.
func (s *Simulator) refusal(status int) *Response {
	for _, of := range s.config.Source.Upstream.Sources {
		for i := range of.Examples {
			if e := &of.Examples[i]; e.HTTP == status && json.Valid(e.Body) {
				return answerOf(e, e.Body)
			}
		}
	}
	body := `{"success":false,"errors":[{"code":1,"message":"` + http.StatusText(status) + `"}],"message":"` + http.StatusText(status) + `"}`
	return answerOf(&source.Example{HTTP: status}, []byte(body))
}

func answerOf(e *source.Example, body []byte) *Response {
	a := &Response{Status: e.HTTP, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}
	for name, value := range e.Header {
		a.Header.Set(name, value)
	}
	return a
}

// replace changes the value that a pointer leads to, where there is one that is not null.
func replace(body any, pointer source.Pointer, with func(old any) any) {
	tokens := pointer.Tokens()
	for i, token := range tokens {
		switch holder := body.(type) {
		case map[string]any:
			if body = holder[token]; body != nil && i == len(tokens)-1 {
				holder[token] = with(body)
			}
		case []any:
			n, err := strconv.Atoi(token)
			if err != nil || n < 0 || n >= len(holder) {
				return
			}
			if body = holder[n]; body != nil && i == len(tokens)-1 {
				holder[n] = with(body)
			}
		default:
			return
		}
	}
}

// like is the id as a number where the example has one.
func like(old any, id string) any {
	if _, isNumber := old.(json.Number); isNumber && json.Valid([]byte(id)) {
		return json.Number(id)
	}
	return id
}

func encode(body any) []byte {
	text, _ := json.Marshal(body) //nolint:errchkjson // it was decoded from JSON
	return text
}
