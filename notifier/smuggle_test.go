package notifier_test

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"oprelay/notifier"
)

// wire is a TCP server that keeps what each connection sends and answers it with 204.
type wire struct {
	address string

	mu   sync.Mutex
	sent [][]byte // of every connection, as it came
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{}
	w.address = listen(t, w.serve)
	return w
}

// serve reads until the message's last byte, which is known: the tests' body ends nowhere else.
func (w *wire) serve(conn net.Conn) {
	var sent []byte
	chunk := make([]byte, 64<<10)
	for !bytes.HasSuffix(sent, testMessage().Body) {
		n, err := conn.Read(chunk)
		sent = append(sent, chunk[:n]...)
		if err != nil {
			break
		}
	}
	w.mu.Lock()
	w.sent = append(w.sent, sent)
	w.mu.Unlock()
	_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
}

func (w *wire) requests() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent)
}

// hostileHeaders are what no destination may send, beside the name that its fault has to tell.
func hostileHeaders() map[string]map[string]string {
	hostile := make(map[string]map[string]string)
	for _, name := range []string{
		"webhook-id", "Webhook-Timestamp", "WEBHOOK-SIGNATURE", "webhook-future", "webhook_id", "Webhook.Id", "webhook-",
		"Host", "HOST", "Content-Type", "content-length", "Content_Length", "Content-Encoding", "Content-Md5", "content-",
		"Transfer-Encoding", "transfer_encoding", "TE", "Connection", "Upgrade", "Trailer", "Expect", "Keep-Alive", "HTTP2-Settings",
		"Proxy-Authorization", "Proxy-Connection", "Proxy_Connection", "Proxy", "Traceparent", "tracestate", "User-Agent", "user_agent",
		"Date", "Accept-Encoding", "Idempotency-Key", "X-Idempotency-Key", ":method", ":authority", ":",
		"", " ", " Host", "Host ", "Host\t", "X Y", "X\tY", "X:", "X: y\r\nHost", "X\r\nY", "X\n", "\rX", "X\x00", "X\x7f", "X\u0085",
		"Ｈｏｓｔ", "Hoſt", "Нost", "\u212aeep-Alive", "Host\u200b", "Wеbhook-Id", "X-Ü", "\xff", "(x)", "X/Y", `"X"`, "X,Y", "X;Y", "X=Y", "{}",
		strings.Repeat("x", 257), strings.Repeat("y", 100<<10),
	} {
		hostile[name] = map[string]string{name: "value"}
	}
	for name, value := range map[string]string{
		"X-Crlf": "a\r\nWebhook-Id: b", "X-Lf": "a\nHost: b", "X-Cr": "a\rHost: b", "X-End": "a\r\n\r\nPOST / HTTP/1.1\r\n", "X-Fold": "a\r\n b",
		"X-Tab-Fold": "a\n\tb", "X-Nul": "a\x00b", "X-Del": "a\x7f", "X-Esc": "\x1b[31m", "X-Vt": "a\vb", "X-Nel": "a\u0085b", "X-Ls": "a\u2028b",
		"X-Utf8": "aéb", "X-Wide": "a\uff0db", "X-Lf-Alike": "a\u560a\u560db", "X-Bytes": "a\xff\xfe", "X-Long": strings.Repeat("v", 4097),
		"X-Longest": strings.Repeat("v", 100<<10),
	} {
		hostile[name] = map[string]string{name: value}
	}
	hostile["x-twice"] = map[string]string{"X-Twice": "a", "x-twice": "b"}
	hostile["X_Twice"] = map[string]string{"X-Twice": "a", "X_Twice": "b"}
	thousands := make(map[string]string)
	for i := range 5000 {
		thousands["X-"+strconv.Itoa(10_000+i)] = "v"
	}
	hostile["X-14999"] = thousands
	return hostile
}

// A destination's headers are refused by name at registration, and again by the sender, as if they were stored.
func TestHostileHeadersReachNobody(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	for name, headers := range hostileHeaders() {
		told := slices.ContainsFunc(notifier.CheckHeaders(headers), func(f notifier.HeaderFault) bool {
			return f.Name == name && f.Detail != "" && (len(headers[name]) < 8 || !strings.Contains(f.Detail, headers[name]))
		})
		if !told {
			t.Errorf("%.40q: not named among %.200v", name, notifier.CheckHeaders(headers))
		}
		_, err := send(t, "http://"+w.address+"/", headers)
		if failure := failureOf(t, err); failure.Kind != notifier.Passing || !strings.Contains(failure.Error(), "the destination's header") {
			t.Errorf("%.40q: sent with %v", name, err)
		}
	}
	if n := len(w.requests()); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// On the wire, each header stands once, on a line of its own, with the value that was given; the rest is the relay's.
func TestHeadersOnTheWireByteForByte(t *testing.T) {
	t.Parallel()
	headers := map[string]string{
		"Authorization": "Bearer a.b-c_d~e+f/g==", "X-Empty": "", "X-Quoted": `"a, b"; c=\"d\"`, "X-Colon": "Host: evil", "x-lower": "1",
		"X-Tab": "a\tb", "X-Token!#$%&'*+.^_`|~": "odd but valid", "X-Longest": strings.Repeat("v", 4096), "Cookie": "a=b; c=d",
		strings.Repeat("x", 256): "longest name",
	}
	for i := len(headers); i < 32; i++ {
		headers["X-"+strconv.Itoa(i)] = strings.Repeat("w", 4096)
	}
	w := newWire(t)
	if _, err := send(t, "http://"+w.address+"/in?a=b", headers); err != nil {
		t.Fatal(err)
	}
	sent := w.requests()
	if len(sent) != 1 {
		t.Fatalf("%d connections", len(sent))
	}
	head, body, _ := bytes.Cut(sent[0], []byte("\r\n\r\n"))
	if !bytes.Equal(body, testMessage().Body) {
		t.Errorf("the body is %q", body)
	}
	lines := strings.Split(string(head), "\r\n")
	if lines[0] != "POST /in?a=b HTTP/1.1" || strings.ContainsAny(strings.Join(lines, ""), "\r\n\x00") {
		t.Errorf("the request begins with %q", lines[0])
	}
	got := make(map[string]string)
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		if _, twice := got[strings.ToLower(name)]; twice {
			t.Errorf("%s stands twice", name)
		}
		got[strings.ToLower(name)] = value
	}
	own := map[string]string{"host": w.address, "content-length": strconv.Itoa(len(body)), "content-type": "application/json", "user-agent": "relay/1.2.3", "webhook-id": testEvent, "accept-encoding": "gzip"}
	for name, value := range headers {
		own[strings.ToLower(name)] = value
	}
	for name, value := range own {
		if got[name] != value {
			t.Errorf("%.40s is %.80q, want %.80q", name, got[name], value)
		}
		delete(got, name)
	}
	for _, name := range []string{"webhook-timestamp", "webhook-signature", "traceparent"} {
		delete(got, name)
	}
	if len(got) != 0 {
		t.Errorf("there is more: %v", got)
	}
}
