package testenv

import (
	"os/exec"
	"testing"
)

// Chromium is the path of the browser that package browser starts.
func Chromium(t testing.TB) (program string) {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	unavailable(t, "Chromium")
	return ""
}
