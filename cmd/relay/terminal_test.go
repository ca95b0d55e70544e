package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal and what somebody in front of it sees.
type terminal struct {
	t         *testing.T
	tty       *os.File // for the program
	alternate bool     // it has an alternate screen

	mu            sync.Mutex
	printed       bytes.Buffer // all bytes, as they came
	drained       chan struct{}
	pending       []byte // the beginning of a sequence
	width, height int
	above         []string // the lines that have gone off the top
	screen        [][]byte
	main          [][]byte // the main screen, while the alternate one is shown
	x, y          int
	mainY         int
	wraps         int // lines that were too long
	colors        int // how often the color was set
}

// drainMark is what a program under test never prints.
const drainMark = "\x00"

func newTerminal(t *testing.T, width, height int) *terminal {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var number int
	control(t, keyboard, func(fd int) error {
		if number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	})
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &terminal{t: t, tty: tty, alternate: true, drained: make(chan struct{})}
	s.resize(width, height)
	read := make(chan struct{})
	go func() {
		defer close(read)
		buffer := make([]byte, 4096)
		for {
			n, err := keyboard.Read(buffer)
			s.take(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = tty.Close()
		<-read // for nobody has the other end any more
		_ = keyboard.Close()
	})
	return s
}

// control calls the function with the file's descriptor.
func control(t *testing.T, f *os.File, call func(fd int) error) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = call(int(fd)) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

// resize keeps what fits; of the main screen, lines that do not go off the top.
func (s *terminal) resize(width, height int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.width, s.height = width, height
	if s.main == nil {
		s.scroll()
	}
	s.screen = s.screen[:min(len(s.screen), height)]
	s.y, s.x = min(s.y, height-1), min(s.x, width)
	control(s.t, s.tty, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(width), Row: uint16(height)})
	})
}

// drain waits until all that was written is on the screen.
func (s *terminal) drain() {
	s.t.Helper()
	s.mu.Lock()
	drained := s.drained
	s.mu.Unlock()
	if _, err := s.tty.WriteString(drainMark); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-drained:
	case <-time.After(startLimit):
		s.t.Fatal("what was written does not arrive")
	}
}

// text is what can be seen, with what can be scrolled to.
func (s *terminal) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, line := range s.above {
		fmt.Fprintln(&b, line)
	}
	for _, line := range s.screen {
		fmt.Fprintln(&b, strings.TrimRight(string(line), " "))
	}
	return b.String()
}

// wipe clears what can be seen.
func (s *terminal) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for y := range s.screen {
		s.screen[y] = nil
	}
}

// all is what was printed, without the carriage returns that the terminal adds.
func (s *terminal) all() string {
	s.drain()
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.printed.String(), "\r\n", "\n")
}

var controlSequence = regexp.MustCompile("^\x1b\\[([?0-9;]*)([A-Za-z])")

func (s *terminal) take(data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, data...)
	for len(s.pending) > 0 {
		if s.pending[0] != '\x1b' {
			s.put(s.pending[0])
			s.pending = s.pending[1:]
			continue
		}
		sequence := controlSequence.FindSubmatch(s.pending)
		if sequence == nil {
			return // the rest of it is on its way
		}
		s.control(string(sequence[1]) + string(sequence[2]))
		s.pending = s.pending[len(sequence[0]):]
	}
}

func (s *terminal) put(c byte) {
	if c == drainMark[0] {
		close(s.drained)
		s.drained = make(chan struct{})
		return
	}
	s.printed.WriteByte(c)
	switch c {
	case '\r':
		s.x = 0
	case '\n':
		s.y++
		s.scroll()
	default:
		if s.x == s.width {
			s.wraps++
			s.x, s.y = 0, s.y+1
			s.scroll()
		}
		for len(s.screen) <= s.y {
			s.screen = append(s.screen, nil)
		}
		line := s.screen[s.y]
		for len(line) <= s.x {
			line = append(line, ' ')
		}
		line[s.x] = c
		s.screen[s.y] = line
		s.x++
	}
}

// scroll has lines go off the top until the cursor is on the screen. Those of the
// alternate screen are gone.
func (s *terminal) scroll() {
	for s.y >= s.height {
		if len(s.screen) > 0 {
			if s.main == nil {
				s.above = append(s.above, strings.TrimRight(string(s.screen[0]), " "))
			}
			s.screen = s.screen[1:]
		}
		s.y--
	}
}

func (s *terminal) control(sequence string) {
	if strings.HasSuffix(sequence, "m") {
		s.colors++
		return
	}
	switch sequence {
	case "H":
		s.x, s.y = 0, 0
	case "K", "J":
		if s.y < len(s.screen) {
			s.screen[s.y] = s.screen[s.y][:min(len(s.screen[s.y]), s.x)]
		}
		if sequence == "J" {
			s.screen = s.screen[:min(len(s.screen), s.y+1)]
		}
	case "?1049h":
		if s.alternate {
			s.main, s.mainY = append([][]byte{}, s.screen...), s.y
			s.screen = nil
		}
	case "?1049l":
		if s.alternate {
			s.screen, s.main, s.x, s.y = s.main, nil, 0, s.mainY
			s.scroll()
		}
	default:
		s.t.Errorf("the terminal does not know %q", sequence)
	}
}
