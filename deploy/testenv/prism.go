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
	"sync"
	"testing"
)

// prismFiles pin the mock server and everything that it is made of.
//
//go:embed prism/package.json prism/package-lock.json
var prismFiles embed.FS

// Prism starts a mock server that answers as the OpenAPI document in the file
// says, and returns its URL. A request can choose the answer by Prism's Prefer
// header ("code=404", "dynamic=true"). It is installed by npm into the user's
// cache folder the first time, which takes half a minute and the network.
func Prism(t testing.TB, document string) (url string) {
	t.Helper()
	document, err := filepath.Abs(document)
	if err != nil {
		t.Fatal(err)
	}
	node, nodeErr := exec.LookPath("node")
	if _, err := exec.LookPath("npm"); err != nil || nodeErr != nil {
		unavailable(t, "npm")
	}
	folder, err := installedPrism()
	if err != nil {
		t.Fatalf("install Prism: %v", err)
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

// installedPrism is the folder that Prism is installed in; one installation per
// lock file serves all tests of a user.
//
//nolint:gochecknoglobals // tests of one process install it once, as sharedCluster
var installedPrism = sync.OnceValues(installPrism)

func installPrism() (folder string, err error) {
	lock, err := prismFiles.ReadFile("prism/package-lock.json")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	sum := sha256.Sum256(lock)
	folder = filepath.Join(cache, "oprelay", "prism-"+hex.EncodeToString(sum[:])[:16])
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
	files, err := fs.Sub(prismFiles, "prism")
	if err != nil {
		return "", err
	}
	whole := filepath.Join(aside, "prism")
	if err := os.CopyFS(whole, files); err != nil {
		return "", err
	}
	install := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund") //nolint:noctx // outlives the test that began it
	install.Dir = whole
	if printed, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, printed)
	}
	if err := os.Rename(whole, folder); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return folder, nil
}
