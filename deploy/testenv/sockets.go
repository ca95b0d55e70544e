package testenv

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

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
