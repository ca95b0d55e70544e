package testenv

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a disk of its own for a program, to be filled and emptied while it runs.
type Disk struct {
	Folder string

	t       testing.TB
	mounted bool
}

// StartDisk mounts a file system in memory with room for so many MiB. Who may not mount gets a
// folder instead, where Fill forbids the program to have files grow: the system answers that
// with another error.
func StartDisk(t testing.TB, mebibytes int) *Disk {
	t.Helper()
	d := &Disk{Folder: t.TempDir(), t: t}
	err := unix.Mount("tmpfs", d.Folder, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", mebibytes))
	if err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatal(err)
	}
	if d.mounted = err == nil; d.mounted {
		t.Cleanup(func() {
			if err := unix.Unmount(d.Folder, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	return d
}

// Fill leaves the program no room at all.
func (d *Disk) Fill(p *Program) {
	d.t.Helper()
	if !d.mounted {
		d.limit(p, 1)
		return
	}
	ballast, err := os.Create(d.ballast())
	if err != nil {
		d.t.Fatal(err)
	}
	_, err = io.Copy(ballast, zeros{})
	if closed := ballast.Close(); !errors.Is(err, unix.ENOSPC) || closed != nil {
		d.t.Fatalf("fill the disk: %v, %v", err, closed)
	}
}

// Empty gives the program room again.
func (d *Disk) Empty(p *Program) {
	d.t.Helper()
	if !d.mounted {
		d.limit(p, unix.RLIM_INFINITY)
		return
	}
	if err := os.Remove(d.ballast()); err != nil {
		d.t.Fatal(err)
	}
}

func (d *Disk) ballast() string { return filepath.Join(d.Folder, "ballast") }

// limit is how long the program's files may be from now on.
func (d *Disk) limit(p *Program, most uint64) {
	d.t.Helper()
	if err := unix.Prlimit(p.PID(), unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: most, Max: unix.RLIM_INFINITY}, nil); err != nil {
		d.t.Fatal(err)
	}
}

// zeros is without end.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
