package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A served is a running 'muster rdv serve'.
type served struct {
	stderr func() string
	stop   func() (int, string) // returns the exit status and stderr
}

// startServe runs 'muster rdv serve' and returns its URL.
func startServe(t *testing.T, args ...string) (url string, _ served) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, outW := io.Pipe()
	var stderr lockedBuffer
	code := make(chan int, 1)
	go func() {
		defer func() { _ = outW.Close() }()
		code <- run(ctx, append([]string{"rdv", "serve", "--listen", "127.0.0.1:0"}, args...), strings.NewReader(""), outW, &stderr)
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("first line: %v, stderr %s", err, stderr.String())
	}
	stop := sync.OnceValues(func() (int, string) {
		cancel()
		return <-code, stderr.String()
	})
	t.Cleanup(func() { stop() })
	return strings.TrimSpace(line), served{stderr.String, stop}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// askServe sends a request of rdv/1 to a server, whose URL ends without a
// path or with a slash.
func askServe(t *testing.T, url, method string, lines ...string) net.Conn {
	t.Helper()
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	request := method + " /" + path + "t HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: rdv/1\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n"
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return c
}

func wantServeStatus(t *testing.T, c net.Conn, want int) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%v, %v; want status %d", resp, err, want)
	}
}

func TestServeRelaysAndTells(t *testing.T) {
	url, srv := startServe(t, "--json")
	a := askServe(t, url, "ACCEPT")
	d := askServe(t, url, "DIAL")
	wantServeStatus(t, d, http.StatusSwitchingProtocols)
	if _, err := io.WriteString(d, "CONTINUE\nhello"); err != nil {
		t.Fatal(err)
	}
	if err := d.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b := bufio.NewReader(a)
	resp, err := http.ReadResponse(b, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	if got, err := io.ReadAll(b); err != nil || string(got) != "CONTINUE\nhello" {
		t.Errorf("%q, %v", got, err)
	}
	_ = a.Close()
	_, _ = io.Copy(io.Discard, d)

	code, stderr := srv.stop()
	if code != exitOK {
		t.Errorf("exit %d", code)
	}
	var events []map[string]any
	for line := range strings.Lines(stderr) {
		var ev map[string]any
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, ev)
	}
	names := ""
	for _, ev := range events {
		names += ev["event"].(string) + " "
		if ev["event"] == "relayed" && (ev["dial_bytes"] != 5.0 || len(ev["token"].(string)) != 6) {
			t.Errorf("%v", ev)
		}
		if ev["event"] == "listening" && (ev["open"] != true || ev["url"] != url) {
			t.Errorf("%v", ev)
		}
	}
	if names != "listening relayed draining " && names != "listening draining relayed " {
		t.Errorf("events %q", names)
	}
}

func TestServeIsClosedByATokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("# who may\ns3cret\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, srv := startServe(t, "--token-file", file)
	wantServeStatus(t, askServe(t, url, "DIAL"), http.StatusUnauthorized)
	askServe(t, url, "ACCEPT", "Authorization: Bearer s3cret")
	if _, stderr := srv.stop(); strings.Contains(stderr, "open to everyone") || strings.Contains(stderr, "s3cret") {
		t.Errorf("stderr %q", stderr)
	}
}

func TestServeSaysOnceThatItIsOpen(t *testing.T) {
	_, srv := startServe(t)
	if code, stderr := srv.stop(); code != exitOK || strings.Count(stderr, "open to everyone") != 1 {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

func TestServeMetrics(t *testing.T) {
	url, srv := startServe(t, "--metrics", "127.0.0.1:0")
	wantServeStatus(t, askServe(t, url, "GET"), http.StatusBadRequest)
	said := srv.stderr()
	_, metrics, _ := strings.Cut(strings.SplitN(said, "\n", 2)[0], "metrics at ")
	resp, err := http.Get(metrics)
	if err != nil {
		t.Fatal(err, said)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(b), `muster_rdv_refused_total{code="400"} 1`) {
		t.Errorf("%v\n%s", err, b)
	}
}

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]int64{"": 0, "0": 0, "17": 17, "10K": 10 << 10, "3m": 3 << 20, "2G": 2 << 30, "x": -1, "-1": -1, "1T": -1, "9999999999G": -1, "K": -1} {
		got, err := parseBytes(in)
		if want < 0 {
			if err == nil {
				t.Errorf("%q: %d, want an error", in, got)
			}
		} else if err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
}

func TestServeLimitsByFiles(t *testing.T) {
	for _, tt := range []struct {
		files, conns, perSource int
		unset                   bool
	}{
		{0, 0, 256, true},
		{20000, 18718, 256, true},
		{256, 208, 16, true},
		{256, 208, 256, false},
		{10, 1, 1, true},
	} {
		var o serveOptions
		o.server.MaxWaitingPerSource = 256
		o.limitFiles(tt.files, tt.unset)
		if o.server.MaxConns != tt.conns || o.server.MaxWaitingPerSource != tt.perSource {
			t.Errorf("%+v: %d connections, %d of a source", tt, o.server.MaxConns, o.server.MaxWaitingPerSource)
		}
	}
}

func TestServeURL(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:80": "http://127.0.0.1:80", "0.0.0.0:80": "http://127.0.0.1:80",
		"[::]:80": "http://127.0.0.1:80", "[::1]:80": "http://[::1]:80", "192.0.2.1:80": "http://192.0.2.1:80",
	} {
		addr, err := net.ResolveTCPAddr("tcp", in)
		if err != nil {
			t.Fatal(err)
		}
		if got := serveURL(addr); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
