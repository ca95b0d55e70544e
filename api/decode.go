package api

import (
	"context"
	"encoding/json"
	"strings"
	"unicode"
)

// decode reads the body into its generated type and returns what the document
// finds wrong with it. Fields of a wrong type stay zero, so that the handler
// can go on and find what else is wrong with the others.
func (r *request) decode(into any) *faults {
	var f faults
	f.addSchema(r.operation.body, r.operation.body.VisitJSON(r.tree, schemaOptions()...))
	f.addControls("", r.tree)
	// From the tree and not from the bytes: in it 60.0 is the whole number 60,
	// as the document has it.
	plain, err := json.Marshal(r.tree)
	if err == nil {
		err = json.Unmarshal(plain, into)
	}
	if err != nil && len(f.list) == 0 {
		f.addf("", "holds a value that cannot be read")
	}
	return &f
}

// addControls refuses control characters wherever they stand: PostgreSQL
// cannot store a NUL, and a terminal or a log should not obey a name.
func (f *faults) addControls(pointer string, value any) {
	switch value := value.(type) {
	case string:
		if strings.ContainsFunc(value, isControl) {
			f.addf(pointer, "must not hold control characters")
		}
	case []any:
		for i, item := range value {
			f.addControls(pointer+at(i), item)
		}
	case map[string]any:
		for _, name := range sortedKeys(value) {
			if strings.ContainsFunc(name, unicode.IsControl) {
				f.addf(pointer+at(name), "must not have control characters in its name")
			}
			f.addControls(pointer+at(name), value[name])
		}
	}
}

// isControl spares tabs and line breaks, which text of several lines needs.
func isControl(r rune) bool {
	return unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r'
}

// checkEmpty refuses what is sent to an operation that takes nothing.
func (r *request) checkEmpty(context.Context) error {
	var nothing struct{}
	return r.decode(&nothing).err()
}
