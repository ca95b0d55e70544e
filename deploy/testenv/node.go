package testenv

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// nodeFiles pin what tests run with Node.js, and everything that it is made of.
//
//go:embed node
var nodeFiles embed.FS

// Prism starts a mock server that answers as the OpenAPI document in the file
// says, and returns its URL. A request can choose the answer by Prism's Prefer
// header ("code=404", "dynamic=true"). It is installed by npm into the user's
// cache folder the first time, which takes half a minute and the network.
func Prism(t testing.TB, document string) (url string) {
	t.Helper()
	node, folder := nodePrograms(t)
	document, err := filepath.Abs(document)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder, "node_modules", "@stoplight", "prism-cli", "dist", "index.js")
	p, port, err := startOnFreePort(func(port string) command {
		return command{stopSignal: "KILL", ready: "prism is listening", args: []string{
			node, program, "mock", "--host", loopback, "--port", port, document,
		}}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	return "http://" + net.JoinHostPort(loopback, port)
}

// LintOpenAPI returns what Redocly's recommended rules find in the OpenAPI
// document in the file, one fault on a line. It is installed as Prism is.
func LintOpenAPI(t testing.TB, document string) (faults string) {
	t.Helper()
	node, folder := nodePrograms(t)
	document, err := filepath.Abs(document)
	if err != nil {
		t.Fatal(err)
	}
	lint := exec.CommandContext(t.Context(), node, filepath.Join(folder, "lint.mjs"), document)
	var said strings.Builder
	lint.Stderr = &said
	found, err := lint.Output()
	if err != nil {
		t.Fatalf("lint %s: %v\n%s", document, err, said.String())
	}
	return strings.TrimSpace(string(found))
}

// Axe is axe-core, a script that finds what in a page keeps people with disabilities
// from using it. It is installed as Prism is.
func Axe(t testing.TB) (script string) {
	t.Helper()
	_, folder := nodePrograms(t)
	content, err := os.ReadFile(filepath.Join(folder, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// NodeModule is the command that runs a module of this source, which finds the packages that
// the tests have pinned. They are installed as Prism is.
func NodeModule(t testing.TB, source string) (args []string) {
	t.Helper()
	node, folder := nodePrograms(t)
	own := t.TempDir()
	module := filepath.Join(own, "module.mjs")
	err := errors.Join(os.WriteFile(module, []byte(source), 0o600),
		os.Symlink(filepath.Join(folder, "node_modules"), filepath.Join(own, "node_modules")))
	if err != nil {
		t.Fatal(err)
	}
	return []string{node, module}
}

// nodePrograms is Node.js, and the folder that holds what it runs.
func nodePrograms(t testing.TB) (node, folder string) {
	t.Helper()
	node, nodeErr := exec.LookPath("node")
	if _, err := exec.LookPath("npm"); err != nil || nodeErr != nil {
		unavailable(t, "npm")
	}
	folder, err := installed()
	if err != nil {
		t.Fatalf("install Node.js programs: %v", err)
	}
	return node, folder
}

// installed is the folder that the programs are installed in; one installation per
// version of them serves all tests of a user.
//
//nolint:gochecknoglobals // tests of one process install it once, as sharedCluster
var installed = sync.OnceValues(install)

func install() (folder string, err error) {
	files, err := fs.Sub(nodeFiles, "node")
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, name := range []string{"package-lock.json", "lint.mjs"} {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return "", err
		}
		sum.Write(content)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	folder = filepath.Join(cache, "oprelay", "node-"+hex.EncodeToString(sum.Sum(nil))[:16])
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	if err := os.MkdirAll(filepath.Dir(folder), 0o750); err != nil {
		return "", err
	}
	// Installed aside and renamed, so that what is there is whole; of two
	// processes that do so at once one wins.
	aside, err := os.MkdirTemp(filepath.Dir(folder), "installing-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(aside)) }()
	whole := filepath.Join(aside, "node")
	if err := os.CopyFS(whole, files); err != nil {
		return "", err
	}
	npm := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund") //nolint:noctx // outlives the test that began it
	npm.Dir = whole
	if printed, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, printed)
	}
	if err := os.Rename(whole, folder); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return folder, nil
}
