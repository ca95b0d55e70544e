package source

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
)

// A look-up keeps only the text of what went wrong.
func TestOutOfFiles(t *testing.T) {
	t.Parallel()
	dial := func(errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", errno)}
	}
	for _, test := range []struct {
		err  error
		want bool
	}{
		{dial(syscall.EMFILE), true},
		{fmt.Errorf("a: %w", dial(syscall.ENFILE)), true},
		{&net.DNSError{Err: "dial udp 192.0.2.1:53: socket: too many open files"}, true},
		{&net.DNSError{Err: "dial udp 192.0.2.1:53: socket: too many open files in system"}, true},
		{&net.DNSError{Err: "no such host"}, false},
		{dial(syscall.ECONNREFUSED), false},
		{errors.New("malformed answer: too many open files"), false},
	} {
		if got := isOutOfFiles(test.err); got != test.want {
			t.Errorf("%v: got %v", test.err, got)
		}
	}
}
