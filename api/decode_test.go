package api

import "testing"

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
		tree, _, err := parseJSON(operation.body, body)
		if err != nil {
			t.Fatal(err)
		}
		var read NewWatch
		r := &request{operation: operation, body: body, tree: tree}
		if err := r.decode(&read).err(); err != nil || or(read.TimeoutSeconds, 0) != 60 || len(read.DestinationIds) != 1 {
			t.Errorf("%s is read as %+v, %v", number, read, err)
		}
	}
}
