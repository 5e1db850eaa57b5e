package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	theirs = "v0.0.6"
	ours   = "muster"

	// payload is what is sent each way: more than all buffers on the way.
	payload = 8 << 20

	// attempt bounds one combination; one takes a second or two, on a busy
	// machine ten times that.
	attempt = 2 * time.Minute
)

// programs are the two binaries, by whose they are.
var programs = map[string]string{}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "interop-rdv-")
	if err == nil {
		err = build(dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
	} else {
		code = m.Run()
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// build makes the programs. MUSTER_BIN names a muster to use instead.
func build(dir string) error {
	programs[theirs] = filepath.Join(dir, "rdv")
	programs[ours] = os.Getenv("MUSTER_BIN")
	err := goBuild(".", programs[theirs], "github.com/betamos/rdv/cmd")
	if err != nil || programs[ours] != "" {
		return err
	}
	programs[ours] = filepath.Join(dir, "muster")
	return goBuild("../..", programs[ours], "./cmd/muster")
}

func goBuild(dir, out, pkg string) error {
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Dir = dir
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", pkg, err, b)
	}
	return nil
}

// TestCombinations connects a dialer and an acceptor through a server, where
// each is theirs or ours, and has both send a payload at once.
func TestCombinations(t *testing.T) {
	for _, path := range []string{"direct", "relay"} {
		for _, who := range []struct{ server, dialer, acceptor string }{
			{theirs, ours, ours},
			{ours, theirs, ours},
			{ours, ours, theirs},
			{ours, theirs, theirs},
			{theirs, ours, theirs},
			{theirs, theirs, ours},
		} {
			name := fmt.Sprintf("%s/server=%s/dialer=%s/acceptor=%s", path, who.server, who.dialer, who.acceptor)
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), attempt)
				defer cancel()
				url := startServer(ctx, t, who.server)
				token := "interop-" + randomHex(t, 8)
				a := startPeer(ctx, t, who.acceptor, "accept", url, token, path)
				d := startPeer(ctx, t, who.dialer, "dial", url, token, path)
				begun := time.Now()
				toD, toA := randomBytes(t, payload), randomBytes(t, payload)
				exchange(ctx, t, d, a, toD, toA)
				_, _ = d.stdin.Close(), a.stdin.Close()
				for _, p := range []*peer{d, a} {
					p.finish(t)
					if got := p.path(); got != path {
						t.Errorf("%s took the path %q, want %q\n%s", p.verb, got, path, &p.stderr)
					}
				}
				t.Logf("%d MiB each way in %v", payload>>20, time.Since(begun).Round(time.Millisecond))
			})
		}
	}
}

// startServer returns the URL of a server that ends with the test.
func startServer(ctx context.Context, t *testing.T, whose string) string {
	t.Helper()
	if whose == ours {
		cmd := exec.CommandContext(ctx, programs[ours], "rdv", "serve", "--listen", "127.0.0.1:0")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		start(t, cmd)
		url, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatalf("first line of the server: %v", err)
		}
		return strings.TrimSpace(url)
	}
	addr := freeAddr(t)
	cmd := exec.CommandContext(ctx, programs[theirs], "-l", addr, "serve")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	// It says so just before it listens; the peers' first connection may be too
	// early, so wait for one of our own.
	if _, err := bufio.NewReader(log).ReadString('\n'); err != nil {
		t.Fatalf("first line of the server: %v", err)
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	for ctx.Err() == nil {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = c.Close()
			break
		}
	}
	return "http://" + addr
}

// freeAddr is an address that was free a moment ago: theirs cannot choose one.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts a process that is killed at the end of the test.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// A peer is a process that dials or accepts.
type peer struct {
	whose, verb string
	cmd         *exec.Cmd
	stdin       io.WriteCloser
	stdout      io.Reader
	stderr      buffer
}

func startPeer(ctx context.Context, t *testing.T, whose, verb, url, token, path string) *peer {
	t.Helper()
	spaces := map[string]string{"direct": "all", "relay": "none"}[path]
	args := []string{"-s", spaces, verb, url, token}
	if whose == ours {
		args = []string{"rdv", verb, "--json", "--spaces", spaces, url, token}
	}
	p := &peer{whose: whose, verb: verb, cmd: exec.CommandContext(ctx, programs[whose], args...)}
	p.cmd.Stderr = &p.stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = out
	start(t, p.cmd)
	return p
}

// path is what the peer says about its connection.
func (p *peer) path() string {
	log := p.stderr.String()
	switch {
	case strings.Contains(log, `"path":"direct"`), strings.Contains(log, "is_relay=false"):
		return "direct"
	case strings.Contains(log, `"path":"relay"`), strings.Contains(log, "is_relay=true"):
		return "relay"
	default:
		return "none"
	}
}

// exchange sends both payloads at once and compares what comes out. Both
// inputs stay open until both have arrived: v0.0.6 closes both directions
// when one ends.
func exchange(ctx context.Context, t *testing.T, d, a *peer, toD, toA []byte) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = d.stdin.Write(toA) })
	wg.Go(func() { _, _ = a.stdin.Write(toD) })
	wg.Go(func() { receive(t, a, toA) })
	wg.Go(func() { receive(t, d, toD) })
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		_, _ = d.cmd.Process.Kill(), a.cmd.Process.Kill()
		<-done
		t.Fatalf("no end of it\ndialer: %s\nacceptor: %s", &d.stderr, &a.stderr)
	}
}

func receive(t *testing.T, p *peer, want []byte) {
	got := make([]byte, len(want))
	n, err := io.ReadFull(p.stdout, got)
	if err != nil {
		t.Errorf("%s: %d of %d bytes arrived: %v\n%s", p.verb, n, len(want), err, &p.stderr)
	} else if !bytes.Equal(got, want) {
		t.Errorf("%s: other bytes arrived than were sent", p.verb)
	}
}

// finish waits for the peer's process, whose input has ended. It may fail:
// theirs does when the other end closes first.
func (p *peer) finish(t *testing.T) {
	t.Helper()
	rest, _ := io.ReadAll(p.stdout)
	if len(rest) > 0 {
		t.Errorf("%s: %d bytes more than were sent", p.verb, len(rest))
	}
	if err := p.cmd.Wait(); err != nil && p.whose == ours {
		t.Errorf("%s: %v\n%s", p.verb, err, &p.stderr)
	}
}

func randomBytes(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func randomHex(t *testing.T, n int) string { return hex.EncodeToString(randomBytes(t, n)) }

// A buffer is a bytes.Buffer that may be read while a process writes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
