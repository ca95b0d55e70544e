package egress

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
)

// lyingResolver is a resolver whose only server gives the same addresses for every name there is.
func lyingResolver(t *testing.T, addrs ...string) *net.Resolver {
	t.Helper()
	return dnsServer(t, func(query []byte) []byte { return dnsAnswer(query, addrs) })
}

// dnsServer is a resolver whose only server answers so, and not at all where that is nothing.
func dnsServer(t *testing.T, answer func(query []byte) []byte) *net.Resolver {
	t.Helper()
	var config net.ListenConfig
	conn, err := config.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		query := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			if reply := answer(query[:n]); len(reply) > 0 {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return resolverAt(conn.LocalAddr().String())
}

func resolverAt(address string) *net.Resolver {
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "udp", address)
		},
	}
}

// closedResolver is a resolver at whose address nothing listens.
func closedResolver(t *testing.T) *net.Resolver {
	t.Helper()
	var config net.ListenConfig
	conn, err := config.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	return resolverAt(conn.LocalAddr().String())
}

// deadResolver is a resolver whose server cannot be reached.
func deadResolver() *net.Resolver {
	return &net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: net.UnknownNetworkError("none")}
		},
	}
}

// dnsAnswer repeats the question and answers it with those of the addresses that are of its type (RFC 1035,
// section 4).
func dnsAnswer(query []byte, addrs []string) []byte {
	const headerLen, typeA, typeAAAA = 12, 1, 28
	end := headerLen
	for end < len(query) && query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 1 + 2 + 2 // root label, type, class
	question := query[headerLen:end]
	kind := binary.BigEndian.Uint16(query[end-4:])

	var records []byte
	count := uint16(0)
	for _, text := range addrs {
		addr := netip.MustParseAddr(text)
		if addr.Is4() != (kind == typeA) || addr.Is6() != (kind == typeAAAA) {
			continue
		}
		count++
		records = append(records, 0xc0, headerLen) // the name: see the question
		records = binary.BigEndian.AppendUint16(records, kind)
		records = append(records, 0, 1, 0, 0, 0, 60) // class IN, TTL 60
		records = binary.BigEndian.AppendUint16(records, uint16(len(addr.AsSlice())))
		records = append(records, addr.AsSlice()...)
	}
	answer := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1}, byte(count>>8), byte(count), 0, 0, 0, 0)
	return append(append(answer, question...), records...)
}
