package main

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const projectFolder = "../.."

func TestChooseSaysWhichDatabaseAndItsDate(t *testing.T) {
	t.Parallel()
	const dated = `{"modified":"2026-08-21T20:38:00Z"}`
	tests := []struct {
		name          string
		live          http.HandlerFunc
		extract       string // its index/db.json, "" = there is none
		wantLive      bool
		wantPrinted   []string
		wantErrorWith []string // nil = no error
	}{
		{"the live database", answer(`{"modified":"2026-11-20T01:02:03Z"}`), dated, true, []string{"live database", "2026-11-20"}, nil},
		{"live without an extract", answer(`{"modified":"2026-11-20T01:02:03Z"}`), "", true, []string{"live database", "2026-11-20"}, nil},
		{"live is away", http.NotFound, dated, false, []string{"404", "the extract", "2026-08-21"}, nil},
		{"live answers something else", answer(`<html>`), dated, false, []string{"the extract", "2026-08-21"}, nil},
		{"live has no date", answer(`{}`), dated, false, []string{"no date", "the extract", "2026-08-21"}, nil},
		{"neither", http.NotFound, "", false, nil, []string{"404", "find the extract"}},
		{"live away, the extract undated", http.NotFound, `{}`, false, nil, []string{"404", "no date"}},
		{"live away, the extract broken", http.NotFound, `{`, false, nil, []string{"404", "read a database's index"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(tt.live)
			defer server.Close()
			folder := t.TempDir()
			if tt.extract != "" {
				write(t, filepath.Join(folder, indexFile), tt.extract)
				write(t, filepath.Join(folder, modulesFile), "[]")
			}
			var printed strings.Builder
			url, err := choose(t.Context(), server.URL, folder, &printed)
			if err != nil {
				if len(tt.wantErrorWith) == 0 {
					t.Fatal(err)
				}
				contains(t, err.Error(), tt.wantErrorWith)
				return
			}
			want := "file://" + folder
			if tt.wantLive {
				want = server.URL
			}
			if url != want || len(tt.wantErrorWith) > 0 {
				t.Errorf("chose %q without an error, want %q, %q", url, want, tt.wantErrorWith)
			}
			contains(t, printed.String(), tt.wantPrinted)
		})
	}
}

// An extract whose list of modules was lost is none.
func TestExtractWithoutModules(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write(t, filepath.Join(folder, indexFile), `{"modified":"2026-08-21T20:38:00Z"}`)
	if _, err := extractModified(folder); err == nil {
		t.Error("no error")
	}
}

// answer serves the text as the live database serves its index.
func answer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/index/db.json.gz" {
			http.NotFound(w, r)
			return
		}
		zipped := gzip.NewWriter(w)
		_, _ = io.WriteString(zipped, text)
		_ = zipped.Close()
	}
}

// The check passes only if the database knows of nothing that the code can
// reach, and has every entry that it names.
func TestCheck(t *testing.T) {
	t.Parallel()
	affecting := func(symbol, events string) string {
		return `{"id":"GO-2026-9999","affected":[{"package":{"name":"stdlib","ecosystem":"Go"},` +
			`"ranges":[{"type":"SEMVER","events":[` + events + `]}],` +
			`"ecosystem_specific":{"imports":[{"path":"path","symbols":["` + symbol + `"]}]}}],` +
			`"database_specific":{"url":"https://pkg.go.dev/vuln/GO-2026-9999"}}`
	}
	const always, fixed = `{"introduced":"0"}`, `{"introduced":"0"},{"fixed":"1.2.3"}`
	tests := []struct {
		name, entry string // "" = the database has only its id
		wantError   bool
		wantPrinted string
	}{
		{"a vulnerable function is called", affecting("Base", always), true, "GO-2026-9999"},
		{"another one is", affecting("Dir", always), false, "No vulnerabilities found"},
		{"it is fixed in this version", affecting("Base", fixed), false, "No vulnerabilities found"},
		{"an entry is missing", "", true, "GO-2026-9999.json: no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, database := t.TempDir(), t.TempDir()
			write(t, filepath.Join(code, "go.mod"), "module example\n\ngo 1.26\n")
			write(t, filepath.Join(code, "main.go"), "package main\n\nimport \"path\"\n\nfunc main() { println(path.Base(\"a/b\")) }\n")
			write(t, filepath.Join(database, indexFile), `{"modified":"2026-08-21T20:38:00Z"}`)
			write(t, filepath.Join(database, modulesFile), `[{"path":"stdlib","vulns":[{"id":"GO-2026-9999"}]}]`)
			if tt.entry != "" {
				write(t, filepath.Join(database, entriesFolder, "GO-2026-9999.json"), tt.entry)
			}
			var printed strings.Builder
			err := check(t.Context(), &printed, &printed, projectFolder, "-C", code, "-db", "file://"+database, "./...")
			if (err != nil) != tt.wantError {
				t.Errorf("check: %v, want an error: %t", err, tt.wantError)
			}
			contains(t, printed.String(), []string{tt.wantPrinted})
			if strings.Contains(printed.String(), "panic:") {
				t.Errorf("govulncheck failed by itself:\n%s", printed.String())
			}
		})
	}
}

func contains(t *testing.T, text string, parts []string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("nothing says %q in:\n%s", part, text)
		}
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
