package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Program is a program under test, in a process of its own.
type Program struct {
	Stdout, Stderr *Output
	// Ended is closed when the process is gone and all it printed has been read.
	Ended chan struct{}

	t    testing.TB
	name string
	cmd  *exec.Cmd
}

// Build builds a command at the path, with the race detector if the tests have
// it. Arguments are those of go build, the package last.
func Build(path string, arguments ...string) error {
	args := []string{"build", "-o", path}
	info, _ := debug.ReadBuildInfo()
	if info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	printed, err := exec.Command("go", append(args, arguments...)...).CombinedOutput() //nolint:noctx // outlives the test that began it
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, printed)
	}
	return nil
}

// StartProgram starts the program at the path in the folder, with nothing but
// env (by name) for its environment, and does not wait for anything. When the
// test ends the process goes. A data race or a panic of its fails the test, and
// if the test failed, what it printed is shown.
func StartProgram(t testing.TB, path, folder string, env map[string]string, args ...string) *Program {
	t.Helper()
	p := &Program{
		Stdout: NewOutput(), Stderr: NewOutput(), Ended: make(chan struct{}),
		t: t, name: strings.Join(args, " "),
	}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), path, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = folder, p.Stdout, p.Stderr
	p.cmd.Env = []string{"GORACE=halt_on_error=1"}
	for name, value := range env {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.Ended)
		_ = p.cmd.Wait() // its outcome is in ProcessState
	}()
	t.Cleanup(func() {
		p.Kill()
		if wrong := firstOf(p.Stderr.String(), "DATA RACE", "panic:"); wrong >= 0 {
			t.Errorf("%s: a data race or a panic", p.name)
		}
		if t.Failed() {
			t.Logf("%s printed:\n%s%s", p.name, p.Stdout, tail(p.Stderr.String()))
		}
	})
	return p
}

// firstOf is where the first of the texts stands that occurs; -1 for none.
func firstOf(log string, texts ...string) int {
	for _, text := range texts {
		if at := strings.Index(log, text); at >= 0 {
			return at
		}
	}
	return -1
}

// tail is what matters of a long log: where it goes wrong, or else its end.
func tail(log string) string {
	const most = 8 << 10
	if len(log) <= most {
		return log
	}
	if at := firstOf(log, "DATA RACE", "panic:"); at >= 0 {
		return "...\n" + log[at:min(at+most, len(log))]
	}
	return "...\n" + log[len(log)-most:]
}

// PID is the process's id.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Terminate asks the process to stop, as a service manager does.
func (p *Program) Terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("SIGTERM: %v", err)
	}
}

// Stop terminates the process, which has to end by itself within the limit and
// with exit code 0.
func (p *Program) Stop(limit time.Duration) {
	p.t.Helper()
	p.Terminate()
	if code := p.Wait(limit); code != 0 {
		p.t.Errorf("%s: exit code %d after SIGTERM, want 0", p.name, code)
	}
}

// Wait is the exit code of the process, which has to end within the limit.
func (p *Program) Wait(limit time.Duration) int {
	p.t.Helper()
	up := time.NewTimer(limit)
	defer up.Stop()
	select {
	case <-p.Ended:
	case <-up.C:
		p.t.Fatalf("%s: still running after %s", p.name, limit)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Kill ends the process as kill -9 does. Killing what has ended does nothing.
func (p *Program) Kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("%s: kill: %v", p.name, err)
	}
	<-p.Ended
}
