package main

import (
	"encoding/json"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
)

const (
	// startLimit is how long a process may take to be up. A busy machine is slow.
	startLimit = 90 * time.Second
	// upLine is what a role logs once it is up.
	upLine = `"msg":"relay is up"`
)

// relay is the program in a process of its own.
type relay struct {
	*testenv.Program

	t *testing.T
	// address is the API's, "" without one.
	address string
}

// spawn starts the program in the folder, without waiting for anything.
func spawn(t *testing.T, folder string, env environment, args ...string) *relay {
	t.Helper()
	build := relayBinary
	if env["RELAY_CHAOS_CLOCK"] != "" {
		build = chaosBinary
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return &relay{Program: testenv.StartProgram(t, path, folder, env, args...), t: t}
}

// spawnOn starts the program in front of a person: all that it prints is on the terminal.
func spawnOn(t *testing.T, screen *terminal, env environment, args ...string) *relay {
	t.Helper()
	return spawnInShell(t, env, ">"+screen.tty.Name()+" 2>&1", args...)
}

// spawnInShell starts the program with its output redirected.
func spawnInShell(t *testing.T, env environment, redirection string, args ...string) *relay {
	t.Helper()
	path, err := relayBinary()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"-c", `exec "$0" "$@" ` + redirection, path}, args...)
	return &relay{Program: testenv.StartProgram(t, "/bin/sh", t.TempDir(), env, args...), t: t}
}

// startRelay starts a role of the program (serve, api, worker) in the folder and
// returns when it is up.
func startRelay(t *testing.T, folder string, env environment, role string) *relay {
	t.Helper()
	r := spawn(t, folder, env, role)
	r.awaitUp(t, role)
	return r
}

// awaitUp waits until the role is up, and learns its address.
func (r *relay) awaitUp(t *testing.T, role string) {
	t.Helper()
	line, ok := r.Stderr.Wait(deadline(t, startLimit), upLine, r.Ended)
	if !ok {
		t.Fatalf("relay %s did not come up:\n%s", role, r.Stderr)
	}
	var up struct{ Listen string }
	if err := json.Unmarshal([]byte(line), &up); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	r.address = up.Listen
}

// firstKey is the key that a first start prints, "" on any other.
func (r *relay) firstKey() string {
	line, _ := r.Stderr.Find(`"key":"relay_`)
	var printed struct{ Key string }
	_ = json.Unmarshal([]byte(line), &printed)
	return printed.Key
}

// client is the generated client with the key.
func (r *relay) client(key string) *client.ClientWithResponses {
	r.t.Helper()
	c, err := client.NewClientWithResponses("http://"+r.address, client.WithAPIKey(key))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// Stop terminates the process, which has to end by itself with exit code 0.
func (r *relay) Stop() {
	r.t.Helper()
	r.Program.Stop(startLimit)
}
