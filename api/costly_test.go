package api

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// listed is n values with commas between them; each may use its number.
func listed(n int, format string) string {
	values := make([]string, 0, n)
	for i := range n {
		values = append(values, strings.ReplaceAll(format, "#", strconv.Itoa(i)))
	}
	return strings.Join(values, ",")
}

// costly are bodies of up to 1 MiB in which everything is wrong, with the
// first fault and the most that may be named.
func costly() []struct {
	name, operation, body string
	first                 Fault
	most                  int
} {
	long := strings.Repeat("é", 500000)
	watch := `{"destination_ids":[` + listed(20, `0`) + `],"metadata":{` + listed(50, `"m#":0`) + `}}`
	unknown := "is not a field of this request; known: account_id, credential_id, destination_ids, events, metadata, name, operation_id, params, source, timeout_seconds"
	return []struct {
		name, operation, body string
		first                 Fault
		most                  int
	}{
		{"too many watches", "createWatches", `{"watches":[` + listed(200000, `{}`) + `]}`, Fault{"must have 1 to 1000 items", "/watches"}, 1 + 1001*4},
		{"everything wrong in every watch", "createWatches", `{"watches":[` + listed(1000, watch) + `]}`, Fault{"must be a string", "/watches/0/destination_ids/0"}, maxFaults},
		{"unknown fields", "createWatch", `{` + listed(80000, `"f#":0`) + `}`, Fault{unknown, "/f0"}, maxFaults},
		{"unknown fields in every watch", "createWatches", `{"watches":[` + listed(1000, `{`+listed(100, `"f#":0`)+`}`) + `]}`, Fault{unknown, "/watches/0/f0"}, maxFaults},
		{"much in an unknown field", "createWatch", `{"f":[` + listed(110000, `"\u0001"`) + `]}`, Fault{unknown, "/f"}, 1 + 4},
		{"unknown fields where none is known", "testDestination", `{` + listed(80000, `"f#":0`) + `}`, Fault{"is not a field of this request", "/f0"}, maxFaults},
		{"too many scopes", "createKey", `{"scopes":[` + listed(200000, `"x"`) + `]}`, Fault{"must have 1 to 3 items", "/scopes"}, 1 + 4 + 1},
		{"too many events", "createWatch", `{"events":[` + listed(200000, `"x"`) + `]}`, Fault{"must have 1 to 4 items", "/events"}, 1 + 5 + 4},
		{"too much metadata", "createWatch", `{"metadata":{` + listed(66000, `"m#":0`) + `}}`, Fault{"must have at most 50 keys", "/metadata"}, 1 + 51 + 4},
		{"too many headers", "createDestination", `{"headers":{` + listed(66000, `"h#":0`) + `}}`, Fault{"must have at most 32 keys", "/headers"}, 1 + 33 + 2},
		{"a list for a map", "createWatch", `{"metadata":[` + listed(200000, `{}`) + `]}`, Fault{"must be an object", "/metadata"}, 1 + 4},
		{"a map for a list", "createWatch", `{"events":{` + listed(66000, `"e#":0`) + `}}`, Fault{"must be a list", "/events"}, 1 + 4},
		{"a list for a body", "createWatch", `[` + listed(200000, `{}`) + `]`, Fault{"must be an object", ""}, 1},
		{"a long field", "createWatch", `{"` + long + `":0}`, Fault{unknown, "/" + long[:maxName] + "…"}, 1 + 4},
		{"a long key", "createWatch", `{"metadata":{"x` + long + `":0}}`, Fault{"must be a string", "/metadata/x" + long[:maxName-2] + "…"}, 1 + 4},
		{"a long header", "createDestination", `{"headers":{"` + long + `":0}}`, Fault{"must be a string", "/headers/" + long[:maxName] + "…"}, 1 + 2},
	}
}

// What a body makes the relay do is in proportion to its bytes, whatever is wrong in it. Of 200,000 empty watches each took
// 104 allocations.
//
//nolint:paralleltest // it measures the allocations of the whole process
func TestABodyCostsInProportion(t *testing.T) {
	document, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range costly() {
		t.Run(test.name, func(t *testing.T) {
			operation := document.operations[test.operation]
			if len(test.body) > maxBody {
				t.Fatalf("%d bytes", len(test.body))
			}
			var f *faults
			allocations := testing.AllocsPerRun(1, func() {
				r := &request{operation: operation, body: []byte(test.body)}
				if err := r.validate(); err != nil {
					t.Fatal(err)
				}
				var body map[string]any
				f = r.decode(&body)
			})
			if most := float64(4 * len(test.body)); allocations > most {
				t.Errorf("%.0f allocations for %d bytes", allocations, len(test.body))
			}
			if len(f.list) == 0 || f.list[0] != test.first {
				t.Fatalf("first of the faults: %.300v, want %v", f.list[:min(1, len(f.list))], test.first)
			}
			if len(f.list) > test.most {
				t.Errorf("%d faults are named, want at most %d", len(f.list), test.most)
			}
			t.Logf("%.2f allocations per byte", allocations/float64(len(test.body)))
		})
	}
}

// Of a body of 1 MiB in which everything is wrong comes no more than tens of MB, and two are validated at once.
//
//nolint:paralleltest // it measures the allocations of the whole process
func TestTheWorstBodyTakesTensOfMB(t *testing.T) {
	document, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	const most = 64 // bytes allocated for each byte
	for _, test := range []struct{ name, body string }{
		{"watches", `{"watches":[` + listed(349001, `{}`) + `]}`},
		{"texts", `{"watches":[` + listed(349001, `""`) + `]}`},
		{"lists", `{"watches":[` + listed(349001, `[]`) + `]}`},
		{"metadata", `{"watches":[{"metadata":{` + listed(95000, `"#":0`) + `}}]}`},
		{"fields", `{` + listed(95000, `"#":{}`) + `}`},
		{"numbers", `{"watches":[1e999,` + listed(500000, `0`) + `]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &request{operation: document.operations["createWatches"], body: []byte(test.body)}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := r.validate()
			runtime.ReadMemStats(&after)
			if err != nil || len(r.faults.list) == 0 || len(r.body) > maxBody {
				t.Fatalf("%d bytes: %v", len(r.body), err)
			}
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > uint64(most*len(r.body)) {
				t.Errorf("%d bytes allocated for %d", allocated, len(r.body))
			}
		})
	}
}

// The largest batches that are right, in each direction in which 1 MiB lets them grow, are read whole.
func TestAFullBatchIsRead(t *testing.T) {
	t.Parallel()
	document, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name                          string
		watches, destinations, labels int
	}{{"destinations", 1000, 20, 0}, {"metadata", 1000, 1, 50}, {"both", 700, 20, 50}} {
		ids := make([]string, test.destinations)
		for i := range ids {
			ids[i] = `"destination_01jd8p5kzve6wbdq8rfg0m3c` + strconv.Itoa(10+i) + `"`
		}
		watch := `{"operation_id":"4da8780eeb215e6cb7f48dd981c4ed02","account_id":"023e105f4ecef8ad9ca31a8372d0c353",
			"credential_id":"credential_01jd8p5kzve6wbdq8rfg0m3c7x","destination_ids":[` + strings.Join(ids, ",") + `],"metadata":{` +
			listed(test.labels, `"m#":""`) + `}}`
		body := []byte(`{"watches":[` + listed(test.watches, watch) + `]}`)
		operation := document.operations["createWatches"]
		var read NewWatches
		r := &request{operation: operation, body: body}
		if err := r.validate(); err != nil || len(body) > maxBody {
			t.Fatalf("%s: %d bytes: %v", test.name, len(body), err)
		}
		if err := r.decode(&read).err(); err != nil || len(read.Watches) != test.watches {
			t.Fatalf("%s: %d watches, %v", test.name, len(read.Watches), err)
		}
		last := read.Watches[test.watches-1]
		if len(last.DestinationIds) != test.destinations || len(or(last.Metadata, nil)) != test.labels {
			t.Errorf("%s: %+v", test.name, last)
		}
	}
}
