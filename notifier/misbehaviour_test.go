package notifier_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"oprelay/notifier"
)

// misbehaviour is what a receiver does with a connection, and what must come of it.
type misbehaviour struct {
	name string
	// answer is all that is sent after the request; serve takes its place if it takes more than bytes.
	answer string
	serve  func(conn net.Conn)

	status int
	body   string // of the outcome; "*" for the first 4 KiB of something endless
	fault  string // part of the error; empty = accepted
	late   bool   // only the deadline ends it
	kind   notifier.Kind
	retry  time.Duration
}

// receiverOf hands every connection to serve once the request is in, and then closes it. It counts what it could send.
func receiverOf(t *testing.T, serve func(conn net.Conn)) (address string, sent *atomic.Int64) {
	t.Helper()
	sent = new(atomic.Int64)
	return listen(t, func(conn net.Conn) {
		request := make([]byte, 64<<10)
		for n := 0; !bytes.HasSuffix(request[:n], testMessage().Body); {
			more, err := conn.Read(request[n:])
			if n += more; err != nil {
				return
			}
		}
		serve(countingConn{conn, sent})
	}), sent
}

type countingConn struct {
	net.Conn

	sent *atomic.Int64
}

func (c countingConn) Write(data []byte) (int, error) {
	n, err := c.Conn.Write(data)
	c.sent.Add(int64(n))
	return n, err
}

// reset closes a connection without the courtesy of finishing it.
func reset(conn net.Conn) {
	if counting, ok := conn.(countingConn); ok {
		conn = counting.Conn
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// drip sends the pieces in turn, one every few milliseconds, until the sender has had enough.
func drip(conn net.Conn, pieces ...string) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for i := 0; ; i++ {
		<-ticker.C
		if _, err := io.WriteString(conn, pieces[i%len(pieces)]); err != nil {
			return
		}
	}
}

// first writes a beginning and then goes on.
func first(head string, then func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = io.WriteString(conn, head)
		then(conn)
	}
}

func hang(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func flood(chunk string) func(net.Conn) {
	return func(conn net.Conn) { endless(conn, []byte(strings.Repeat(chunk, 1+(64<<10)/len(chunk)))) }
}

func brokenConnections() []misbehaviour {
	const ok = "HTTP/1.1 200 OK\r\n"
	return []misbehaviour{
		{name: "closed before the answer", answer: "", fault: "closed before the answer was complete"},
		{name: "reset before the answer", serve: reset, fault: "the connection"},
		{name: "closed within the status", answer: "HTTP/1.1 20", fault: "not valid HTTP"},
		{name: "closed within the headers", answer: ok + "X: y\r\n", fault: "closed before the answer was complete"},
		{name: "reset within the headers", serve: first(ok+"X: y\r\n", reset), fault: "the connection"},
		{name: "closed within the body", answer: ok + "Content-Length: 100\r\n\r\nthanks", status: 200, body: "thanks"},
		{name: "closed within a refusal", answer: "HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\nsorry", status: 500, body: "sorry", fault: "500"},
		{name: "closed within a chunk", answer: ok + "Transfer-Encoding: chunked\r\n\r\n64\r\nthanks", status: 200, body: "thanks"},
		{name: "hangs before the answer", serve: hang, late: true},
		{name: "hangs within the headers", serve: first(ok+"X: y\r\n", hang), late: true},
		{name: "hangs within the body", serve: first(ok+"Content-Length: 100\r\n\r\nthanks", hang), status: 200, body: "thanks", late: true},
		{name: "drips its headers", serve: first(ok, func(c net.Conn) { drip(c, "x", ":", "y", "\r\n") }), late: true},
		{name: "drips one header", serve: first(ok+"X: ", func(c net.Conn) { drip(c, "y") }), late: true},
		{name: "drips its body", serve: first(ok+"Content-Length: 4000\r\n\r\n", func(c net.Conn) { drip(c, "y") }), status: 200, body: "*", late: true},
		{name: "drips chunks", serve: first(ok+"Transfer-Encoding: chunked\r\n\r\n", func(c net.Conn) { drip(c, "1\r\ny\r\n") }), status: 200, body: "*", late: true},
		{name: "drips interim answers", serve: func(c net.Conn) { drip(c, "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n") }, late: true},
	}
}

func floods() []misbehaviour {
	const ok, tooLarge = "HTTP/1.1 200 OK\r\n", "headers are too large"
	return []misbehaviour{
		{name: "endless body", serve: first(ok+"\r\n", flood("a")), status: 200, body: "*"},
		{name: "endless refusal", serve: first("HTTP/1.1 500 X\r\n\r\n", flood("a")), status: 500, body: "*", fault: "500"},
		{name: "endless chunks", serve: first(ok+"Transfer-Encoding: chunked\r\n\r\n", flood("1\r\na\r\n")), status: 200, body: "*"},
		{name: "endless chunk extension", serve: first(ok+"Transfer-Encoding: chunked\r\n\r\n1;", flood("a")), status: 200},
		{name: "endless trailer", serve: first(ok+"Transfer-Encoding: chunked\r\n\r\n0\r\n", flood("X: y\r\n")), status: 200},
		{name: "10 GB announced", serve: first(ok+"Content-Length: 10737418240\r\n\r\n", flood("a")), status: 200, body: "*"},
		{name: "endless headers", serve: first(ok, flood("X: y\r\n")), fault: tooLarge},
		{name: "endless header", serve: first(ok+"X: ", flood("y")), fault: tooLarge},
		{name: "endless status", serve: first("HTTP/1.1 200 ", flood("y")), fault: tooLarge},
		{name: "endless continued header", serve: first(ok+"X: y\r\n", flood(" z\r\n")), fault: tooLarge},
		{name: "endless 100", serve: flood("HTTP/1.1 100 Continue\r\n\r\n"), fault: tooLarge},
		{name: "endless 103", serve: flood("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"), fault: tooLarge},
		{name: "endless garbage", serve: flood("garbage "), fault: tooLarge},
		{name: "endless lines", serve: flood("\r\n"), fault: "not valid HTTP"},
		{name: "endless zeros", serve: flood("\x00"), fault: tooLarge},
	}
}

func oddAnswers() []misbehaviour {
	const invalid = "not valid HTTP"
	whole := func(head, body string) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", head, len(body), body)
	}
	return []misbehaviour{
		{name: "HTTP/0.9", answer: "<html>thanks</html>\r\n", fault: invalid},
		{name: "HTTP/2 frames", answer: "\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", fault: invalid},
		{name: "SSH", answer: "SSH-2.0-OpenSSH_9.9\r\n", fault: invalid},
		{name: "no status", answer: "HTTP/1.1\r\n\r\n", fault: invalid},
		{name: "status in words", answer: "HTTP/1.1 OK OK\r\n\r\n", fault: invalid},
		{name: "status of four digits", answer: "HTTP/1.1 2000 OK\r\n\r\n", fault: invalid},
		{name: "negative status", answer: "HTTP/1.1 -20 OK\r\n\r\n", fault: invalid},
		{name: "header without colon", answer: "HTTP/1.1 200 OK\r\nX\r\n\r\n", fault: invalid},
		{name: "NUL in a header", answer: "HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", fault: invalid},
		{name: "negative length", answer: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", fault: invalid},
		{name: "length in words", answer: "HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n", fault: invalid},
		{name: "length in our words", answer: "HTTP/1.1 200 OK\r\nContent-Length: tls: response headers exceeded\r\n\r\n", fault: invalid},
		{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", fault: invalid},
		{name: "unknown transfer", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: rot13\r\n\r\nab", fault: invalid},
		{name: "length too small", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nthanks", status: 200, body: "tha"},
		{name: "length of no number", answer: "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nthanks", fault: invalid},
		{name: "chunks of no size", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nthanks", status: 200},
		{name: "huge chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nthanks", status: 200, body: "thanks"},
		{name: "an unasked switch", serve: first("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", flood("a")), status: 101, fault: "101"},
		{name: "interim answers, then one", answer: "HTTP/1.1 100 X\r\n\r\nHTTP/1.1 102 X\r\n\r\nHTTP/1.1 103 X\r\n\r\n" + whole("200 OK", "hi"), status: 200, body: "hi"},
		{name: "204 with a body", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nthanks", status: 204},
		{name: "205 with a body", answer: whole("205 Reset", "thanks"), status: 205, body: "thanks"},
		{name: "304 with a body", answer: "HTTP/1.1 304 X\r\nContent-Length: 6\r\n\r\nthanks", status: 304, fault: "304"},
		{name: "status 000", answer: whole("000 X", ""), fault: "answered 0"},
		{name: "status 999", answer: whole("999 X", "x"), status: 999, body: "x", fault: "answered 999"},
		{name: "HTTP/1.0", answer: "HTTP/1.0 200 OK\r\n\r\nthanks", status: 200, body: "thanks"},
		{name: "gone", answer: whole("410 Gone", "no more"), status: 410, body: "no more", fault: "410", kind: notifier.Gone},
		{name: "gone, and hangs", serve: first("HTTP/1.1 410 Gone\r\nContent-Length: 9\r\n\r\nno", hang), status: 410, body: "no", late: true},
	}
}

func encodings(t *testing.T) []misbehaviour {
	t.Helper()
	packed := string(bomb(t))
	head := func(encoding string) string { return "HTTP/1.1 200 OK\r\nContent-Encoding: " + encoding + "\r\n\r\n" }
	return []misbehaviour{
		{name: "gzip of 10 GB in one member", serve: first(head("gzip"), func(conn net.Conn) {
			z, _ := gzip.NewWriterLevel(conn, gzip.BestSpeed)
			endless(z, make([]byte, 1<<20))
		}), status: 200, body: "*"},
		{name: "gzip in endless members", serve: first(head("gzip"), flood(packed)), status: 200, body: "*"},
		{name: "gzip in endless empty members", serve: first(head("gzip"), flood(string(gzipOf(t, "")))), status: 200},
		{name: "gzip within gzip", answer: head("gzip") + string(gzipOf(t, string(gzipOf(t, "hi")))), status: 200, body: string(gzipOf(t, "hi"))},
		{name: "gzip named twice", answer: head("gzip, gzip") + "thanks", status: 200, body: "thanks"},
		{name: "gzip cut short", answer: head("gzip") + packed[:1000], status: 200, body: "*"},
		{name: "gzip with an endless name", serve: first(head("gzip")+"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x00", flood("a")), status: 200},
		{name: "no gzip", answer: head("gzip") + "thanks", status: 200},
		{name: "deflate", answer: head("deflate") + "thanks", status: 200, body: "thanks"},
		{name: "br", serve: first(head("br"), flood("a")), status: 200, body: "*"},
		{name: "zstd", answer: head("zstd") + "thanks", status: 200, body: "thanks"},
		{name: "an unknown encoding", answer: head("rot13") + "thanks", status: 200, body: "thanks"},
	}
}

func gzipOf(t *testing.T, text string) []byte {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// Whatever a receiver does, the attempt ends, is judged by its status, and takes no more of the answer than it keeps.
func TestReceiversThatMisbehave(t *testing.T) {
	t.Parallel()
	all := append(append(brokenConnections(), floods()...), append(oddAnswers(), encodings(t)...)...)
	for _, tt := range all {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			serve := tt.serve
			if serve == nil {
				serve = first(tt.answer, func(net.Conn) {})
			}
			address, sent := receiverOf(t, serve)
			limit := 30 * time.Second
			if tt.late {
				limit = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			to := notifier.Webhook{URL: "http://" + address + "/", Secrets: []string{testSecret}}
			outcome, err := newClient(t, nil).SendWebhook(ctx, to, testMessage())
			checkOutcome(t, tt, outcome, err)
			const buffers = 32 << 20 // of the two sockets, generously
			if n := sent.Load(); n > buffers {
				t.Errorf("%d bytes were taken", n)
			}
		})
	}
}

func checkOutcome(t *testing.T, tt misbehaviour, outcome notifier.Outcome, err error) {
	t.Helper()
	if outcome.StatusCode != tt.status || len(outcome.Body) > 4096 || tt.body != "*" && string(outcome.Body) != tt.body {
		t.Errorf("status %d and %d bytes %.20q, want %d", outcome.StatusCode, len(outcome.Body), outcome.Body, tt.status)
	}
	if tt.fault == "" && !tt.late {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	failure := failureOf(t, err)
	if tt.late != errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), tt.fault) || failure.Kind != tt.kind || failure.RetryAfter != tt.retry {
		t.Errorf("got %v, retry after %v: %v, want %q", failure.Kind, failure.RetryAfter, err, tt.fault)
	}
}
