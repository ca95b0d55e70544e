package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"oprelay/api/client"
)

const (
	// startLimit is how long a process may take to be up. A busy machine is slow.
	startLimit = 30 * time.Second
	// upLine is what a role logs once it is up.
	upLine = `"msg":"relay is up"`
)

// relay is the program in a process of its own.
type relay struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *lines
	stderr *lines
	ended  chan struct{}
	// address is the API's, "" without one.
	address string
}

// spawn starts the program in the folder, without waiting for anything. When the
// test ends the process goes, and if the test failed its log is shown.
func spawn(t *testing.T, folder string, env environment, args ...string) *relay {
	t.Helper()
	path, err := relayBinary()
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, stdout: newLines(), stderr: newLines(), ended: make(chan struct{})}
	r.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), path, args...)
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = folder, r.stdout, r.stderr
	r.cmd.Env = []string{"GORACE=halt_on_error=1"}
	for name, value := range env {
		r.cmd.Env = append(r.cmd.Env, name+"="+value)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.ended)
		_ = r.cmd.Wait() // its outcome is in ProcessState
	}()
	t.Cleanup(func() {
		r.Kill()
		if strings.Contains(r.stderr.String(), "DATA RACE") || strings.Contains(r.stderr.String(), "panic:") {
			t.Errorf("relay %s: a data race or a panic", args[0])
		}
		if t.Failed() {
			t.Logf("relay %s printed:\n%s%s", strings.Join(args, " "), r.stdout, tail(r.stderr.String()))
		}
	})
	return r
}

// tail is what matters of a long log: where it goes wrong, or else its end.
func tail(log string) string {
	const most = 8 << 10
	if len(log) <= most {
		return log
	}
	for _, wrong := range []string{"DATA RACE", "panic:"} {
		if at := strings.Index(log, wrong); at >= 0 {
			return "...\n" + log[at:min(at+most, len(log))]
		}
	}
	return "...\n" + log[len(log)-most:]
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
	line, ok := r.stderr.wait(deadline(t, startLimit), upLine, r.ended)
	if !ok {
		t.Fatalf("relay %s did not come up:\n%s", role, r.stderr)
	}
	var up struct{ Listen string }
	if err := json.Unmarshal([]byte(line), &up); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	r.address = up.Listen
}

// firstKey is the key that a first start prints, "" on any other.
func (r *relay) firstKey() string {
	line, _ := r.stderr.find("    relay_")
	return line
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

// Terminate asks the process to stop, as a service manager does.
func (r *relay) Terminate() {
	r.t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Errorf("SIGTERM: %v", err)
	}
}

// Stop terminates the process, which has to end by itself with exit code 0.
func (r *relay) Stop() {
	r.t.Helper()
	r.Terminate()
	if code := r.Wait(startLimit); code != exitOK {
		r.t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}

// Wait is the exit code of the process, which has to end within the limit.
func (r *relay) Wait(limit time.Duration) int {
	r.t.Helper()
	up := time.NewTimer(limit)
	defer up.Stop()
	select {
	case <-r.ended:
	case <-up.C:
		r.t.Fatalf("still running after %s", limit)
	}
	return r.cmd.ProcessState.ExitCode()
}

// Kill ends the process as kill -9 does. Killing what has ended does nothing.
func (r *relay) Kill() {
	r.t.Helper()
	if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		r.t.Errorf("kill: %v", err)
	}
	<-r.ended
}
