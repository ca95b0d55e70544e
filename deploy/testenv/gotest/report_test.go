package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	t.Parallel()
	const (
		start   = `{"Action":"start","Package":"p"}` + "\n"
		passed  = `{"Action":"output","Package":"p","Test":"TestA","Output":"--- PASS: TestA\n"}` + "\n" + `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
		failed  = `{"Action":"output","Package":"p","Test":"TestB","Output":"--- FAIL: TestB\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestB"}` + "\n"
		skipped = `{"Action":"output","Package":"p","Test":"TestC","Output":"--- SKIP: TestC\n"}` + "\n" + `{"Action":"skip","Package":"p","Test":"TestC"}` + "\n"
		hung    = `{"Action":"output","Package":"p","Test":"TestD","Output":"panic: test timed out\n"}` + "\n"
		ok      = `{"Action":"output","Package":"p","Output":"PASS\n"}` + "\n" + `{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}` + "\n" + `{"Action":"pass","Package":"p"}` + "\n"
		fail    = `{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n"
		noTests = `{"Action":"output","Package":"q","Output":"?   \tq\t[no test files]\n"}` + "\n" + `{"Action":"skip","Package":"q"}` + "\n"
		broken  = `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: undefined: x\n"}` + "\n"
	)
	tests := []struct {
		name, events string
		strict       bool
		want         string
		code         int
	}{
		{"passed", start + passed + ok, true, "ok  \tp\t0.1s\n", 0},
		{"failed", start + passed + failed + fail, true, "--- FAIL: TestB\nFAIL\tp\t0.1s\n", 0}, // go test's own code says so
		{"skipped", start + skipped + ok, false, "ok  \tp\t0.1s\nskipped: p TestC\n", 0},
		{"skipped in CI", start + skipped + ok, true, "ok  \tp\t0.1s\nskipped: p TestC\nFAIL: 1 skipped, and CI=true allows none\n", 1},
		{"without tests", noTests, true, "?   \tq\t[no test files]\n", 0},
		{"timed out", start + hung + fail, true, "FAIL\tp\t0.1s\npanic: test timed out\n", 0},
		{"not built", broken, true, "p.go:1: undefined: x\n", 0},
		{"no event", "plain text\n", true, "plain text\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			seen := newReport(&out)
			for line := range strings.Lines(tt.events) {
				seen.add([]byte(strings.TrimSuffix(line, "\n")))
			}
			if code := seen.close(tt.strict); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if out.String() != tt.want {
				t.Errorf("printed\n%s\nwant\n%s", out.String(), tt.want)
			}
		})
	}
}
