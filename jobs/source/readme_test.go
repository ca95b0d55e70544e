package source

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The definition in the README works as it stands, and its table has every built-in source.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme := read(t, "README.md")
	_, rest, _ := strings.Cut(readme, "```yaml\n")
	definition, _, _ := strings.Cut(rest, "```")
	file := filepath.Join(t.TempDir(), "render.yaml")
	if err := os.WriteFile(file, []byte(definition), 0o600); err != nil {
		t.Fatal(err)
	}
	client := serve(t, "github", func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI != "/teams/red-1/jobs/j7" || r.Header.Get("Authorization") != "Bearer token-marker" {
			t.Errorf("asked %s with %v", r.RequestURI, r.Header)
		}
		reply(200, `{"job":{"id":"j7","state":"broken","reason":"no paint"}}`)(w, r)
	})
	set, err := Load([]string{file}, map[string]string{"render": client.set.Upstream("github").Base})
	if err != nil {
		t.Fatal(err)
	}
	got := client.Poll(t.Context(), Poll{
		Source: set.Source("render.job"), Params: map[string]string{"team": "red-1"}, OperationID: "j7",
		Credential: Credential{Fields: Fields{APIToken: "token-marker"}},
	})
	if got.Verdict != Failed || got.Error != "no paint" || got.UpstreamStatus != "broken" {
		t.Errorf("got %+v", got)
	}
	for _, s := range client.set.Sources() {
		if !strings.Contains(readme, "| `"+s.Name+"` |") {
			t.Errorf("%s is not in the table", s.Name)
		}
	}
}
