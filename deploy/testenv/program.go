package testenv

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// HasRaceDetector reports whether the tests have it.
func HasRaceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// Build builds a command at the path. Arguments are those of go build, the package last. It has
// no race detector unless they ask for it: a program that is started a thousand times would
// take half the time of all tests.
func Build(path string, arguments ...string) error {
	arguments = append([]string{"build", "-o", path}, arguments...)
	printed, err := exec.Command("go", arguments...).CombinedOutput() //nolint:noctx // outlives the test that began it
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
	p.Signal(syscall.SIGTERM)
}

// Signal sends the process a signal.
func (p *Program) Signal(signal syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Errorf("%s: %v", signal, err)
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

// Freeze stops the process where it is, for Kill to end it, and returns the local
// addresses (host:port, as its peers see them) of its TCP connections over IPv4:
// by them a server knows what this process had sent. It needs Linux's /proc.
func (p *Program) Freeze() []string {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Errorf("SIGSTOP: %v", err)
		return nil
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.PID(), &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		p.t.Errorf("%s did not stop: %v, %v", p.name, status, err)
		return nil
	}
	addresses, err := connections(p.PID())
	if err != nil {
		p.t.Error(err)
	}
	return addresses
}

// connections are the local addresses of the process's TCP connections.
func connections(pid int) ([]string, error) {
	inodes, err := socketInodes(pid)
	if err != nil {
		return nil, err
	}
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		return nil, err
	}
	var addresses []string
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line) // see proc_pid_net(5): local address, remote address, ..., inode
		if len(fields) < 10 || !inodes[fields[9]] {
			continue
		}
		address, err := parseAddress(fields[1])
		if err != nil {
			return nil, fmt.Errorf("/proc/%d/net/tcp: %q: %w", pid, fields[1], err)
		}
		addresses = append(addresses, address.String())
	}
	return addresses, nil
}

func socketInodes(pid int) (map[string]bool, error) {
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	inodes := map[string]bool{}
	for _, file := range files {
		target, err := os.Readlink(folder + "/" + file.Name())
		if err != nil {
			return nil, err
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes, nil
}

// parseAddress reads an address as the kernel shows it: 0100007F:1F90, the host as
// a number in the machine's order of bytes, here little-endian.
func parseAddress(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	bytes, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	slices.Reverse(bytes)
	ip, ok := netip.AddrFromSlice(bytes)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%d bytes of host", len(bytes))
	}
	number, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(ip, uint16(number)), err
}

// Output is what a program has printed so far, and lets a test wait for a line
// of it. It is safe for concurrent use.
type Output struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // closed and replaced at every write
}

// NewOutput is one that nothing was printed to yet.
func NewOutput() *Output { return &Output{changed: make(chan struct{})} }

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

// String is everything so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Find is the first whole line that contains the text.
func (o *Output) Find(text string) (line string, ok bool) {
	for line := range strings.Lines(o.String()) {
		if strings.Contains(line, text) && strings.HasSuffix(line, "\n") {
			return strings.TrimSpace(line), true
		}
	}
	return "", false
}

// Wait is Find as soon as there is such a line; false when ctx or the program
// ends without.
func (o *Output) Wait(ctx context.Context, text string, ended <-chan struct{}) (line string, ok bool) {
	for {
		o.mu.Lock()
		changed := o.changed
		o.mu.Unlock()
		if line, ok := o.Find(text); ok {
			return line, true
		}
		select {
		case <-changed:
		case <-ended:
			return o.Find(text)
		case <-ctx.Done():
			return "", false
		}
	}
}
