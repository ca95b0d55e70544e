package source

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// checkFit checks that an answer can be stored and sent on.
func checkFit(t *testing.T, a Answer) {
	t.Helper()
	if !utf8.ValidString(a.Problem+a.Error+a.UpstreamStatus) || strings.ContainsRune(a.Error+a.UpstreamStatus+a.Problem, 0) {
		t.Errorf("unfit to store: %+v", a)
	}
	if len(a.Error) > maxErrorBytes || len(a.Problem) > maxProblemBytes || len(a.UpstreamStatus) > maxStatusBytes {
		t.Errorf("too long to store: %+v", a)
	}
	if _, err := a.CompletedAt.MarshalJSON(); err != nil {
		t.Errorf("unfit to send: %v", err)
	}
}
