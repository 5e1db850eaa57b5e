package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/ticket"
)

// startReachPoint returns the address of a point: rendezvous, reach and an rdv
// server.
func startReachPoint(t *testing.T, cfg reach.Config) string {
	t.Helper()
	server := &rdv.Server{}
	web := httptest.NewServer(server)
	key, err := hostKey("")
	if err != nil {
		t.Fatal(err)
	}
	h, err := muster.NewHost(muster.HostConfig{Key: key, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}})
	if err != nil {
		t.Fatal(err)
	}
	names, err := rendezvous.NewPoint(h, rendezvous.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(web.URL, "http://"))
	cfg.Servers = []string{"http://:" + port + "/"}
	calls, err := reach.NewServer(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(calls.Close(), names.Close(), h.Close()); err != nil {
			t.Error(err)
		}
		_ = server.Close()
		web.CloseClientConnections()
		web.Close()
	})
	return fmt.Sprintf("%s/p2p/%s", h.Addrs()[0], h.ID())
}

// A running is a verb that runs, and what it says on stderr.
type running struct {
	t      *testing.T
	events chan map[string]any
	stdout *bytes.Buffer
	done   chan struct{}
	stop   context.CancelFunc
	code   int
}

// startJSON starts a verb with --json.
func startJSON(t *testing.T, stdin io.Reader, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	r := &running{t: t, events: make(chan map[string]any, 1000), stdout: new(bytes.Buffer), done: make(chan struct{}), stop: cancel}
	out, w := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(r.events)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			event := map[string]any{}
			if json.Unmarshal(lines.Bytes(), &event) != nil {
				event["event"], event["line"] = "text", lines.Text()
			}
			r.events <- event
		}
	})
	go func() {
		defer close(r.done)
		r.code = run(ctx, append(args, "--json"), stdin, r.stdout, w)
		_ = w.Close()
		wg.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
	})
	return r
}

// want waits for an event of one of some kinds.
func (r *running) want(kinds ...string) map[string]any {
	r.t.Helper()
	var before []map[string]any
	for e := range r.events {
		if slices.Contains(kinds, fmt.Sprint(e["event"])) {
			return e
		}
		before = append(before, e)
	}
	<-r.done
	r.t.Fatalf("ended with exit %d before %q: %v", r.code, kinds, before)
	return nil
}

// wait waits for the end and wants an exit code.
func (r *running) wait(code int) {
	r.t.Helper()
	<-r.done
	if r.code != code {
		var rest []map[string]any
		for e := range r.events {
			rest = append(rest, e)
		}
		r.t.Errorf("exit %d, want %d: %v", r.code, code, rest)
	}
}

// newKeyFile returns a file with a new identity, and its peer ID.
func newKeyFile(t *testing.T) (file, id string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	return file, strings.TrimSpace(want(t, exitOK, "key", "new", file))
}

// startEcho returns the address of a service that sends back what it gets.
func startEcho(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.(*net.TCPConn).CloseWrite()
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// TestCallByTicket: a ticket is all that a caller needs; the pipe goes both
// ways, and each end ends its own direction.
func TestCallByTicket(t *testing.T) {
	t.Parallel()
	there, back := strings.Repeat("there\n", 100_000), strings.Repeat("back\n", 50_000)
	for name, flags := range map[string][]string{
		"server": {"--server", startRdvServer(t)},
		"point":  {"--point", startReachPoint(t, reach.Config{})},
	} {
		l := startJSON(t, strings.NewReader(back), append([]string{"listen"}, flags...)...)
		text, _ := l.want("ticket")["ticket"].(string)
		c := startJSON(t, strings.NewReader(there), "call", text, "--relay")
		if e := c.want("connected"); e["path"] != "relay" || e["peer"] == "" {
			t.Errorf("%s: %v", name, e)
		}
		c.wait(exitOK)
		l.wait(exitOK)
		if l.stdout.String() != there || c.stdout.String() != back {
			t.Errorf("%s: %d bytes there, %d back", name, l.stdout.Len(), c.stdout.Len())
		}
	}
}

// TestCallByName: a name and a peer ID lead to the same peer, and the path gets
// direct.
func TestCallByName(t *testing.T) {
	point := startReachPoint(t, reach.Config{})
	file, id := newKeyFile(t)
	t.Setenv(envPoint, point)
	want(t, exitNotFound, "find", "lab")
	want(t, exitNotFound, "call", "lab/nas")
	want(t, exitNotFound, "call", id)
	for _, whom := range []string{"lab/nas", id} {
		l := startJSON(t, strings.NewReader("hello"), "listen", "--ns", "lab", "--name", "nas", "--key", file)
		for range 3 { // lab, lab/nas, and reachable, in any order
			l.want("registered", "reachable")
		}
		if out := want(t, exitOK, "find", "lab"); !strings.Contains(out, id) {
			t.Errorf("find: %q", out)
		}
		in, hold := io.Pipe()
		c := startJSON(t, in, "call", whom)
		e := c.want("connected")
		if e["peer"] != id {
			t.Errorf("connected to %v", e)
		}
		if e["path"] == "relay" { // nothing is slower than nothing
			e = c.want("path")
		}
		if e["path"] != "direct" {
			t.Errorf("then %v", e)
		}
		_ = hold.Close()
		c.wait(exitOK)
		l.wait(exitOK)
		if c.stdout.String() != "hello" {
			t.Errorf("got %q", c.stdout)
		}
	}
	want(t, exitNotFound, "find", "lab")
}

// TestUpForward: a service of one machine is a local port of another one.
func TestUpForward(t *testing.T) {
	t.Setenv(envPoint, startReachPoint(t, reach.Config{}))
	file, _ := newKeyFile(t)
	up := startJSON(t, strings.NewReader(""), "up", "--ns", "lab", "--name", "nas", "--key", file, "--expose", "echo="+startEcho(t), "--expose", "down=127.0.0.1:1")
	for range 3 { // lab, lab/nas, and reachable, in any order
		up.want("registered", "reachable")
	}
	lines, _ := startVerb(t, "forward", "lab/nas:echo")
	addr := nextLine(t, lines)
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			data := bytes.Repeat([]byte{byte(i)}, 100_000)
			if got := exchange(addr, data); !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d came back", len(got), len(data))
			}
		})
	}
	wg.Wait()
	for _, service := range []string{"down", "none"} {
		lines, _ = startVerb(t, "forward", "lab/nas:"+service)
		if got := exchange(nextLine(t, lines), []byte("x")); len(got) != 0 {
			t.Errorf("%s: %q", service, got)
		}
	}
	// A peer that is up answers pings, and takes no pipe.
	out := want(t, exitOK, "ping", "lab/nas", "--count", "3", "--interval", "100ms")
	if !strings.Contains(out, "seq=3 path=") || strings.Contains(out, "seq=4") {
		t.Errorf("ping: %s", out)
	}
	lines, stop := startVerb(t, "ping", "lab/nas", "--interval", "100ms")
	for !strings.HasPrefix(nextLine(t, lines), "path: direct ") { // at once, or as soon as there is one
	}
	if code := stop(); code != exitOK {
		t.Errorf("ping ended with exit %d", code)
	}
	want(t, exitNotFound, "call", "lab/nas")
}

// exchange sends data and returns what comes until the end, or until a reset,
// which may come before the dial is done.
func exchange(addr string, data []byte) []byte {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil
	}
	defer conn.Close() //nolint:errcheck // a test
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		_, _ = conn.Write(data)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, _ := io.ReadAll(conn)
	return got
}

// TestAccessList: who is not on the list gets no token, by no way.
func TestAccessList(t *testing.T) {
	t.Setenv(envPoint, startReachPoint(t, reach.Config{}))
	friend, friendID := newKeyFile(t)
	stranger, _ := newKeyFile(t)
	file, id := newKeyFile(t)
	up := startJSON(t, strings.NewReader(""), "up", "--key", file, "--expose", "echo="+startEcho(t), "--allow", friendID)
	up.want("reachable")
	want(t, exitRefused, "ping", id, "--key", stranger, "--count", "1")
	want(t, exitOK, "ping", id, "--key", friend, "--count", "1")
	lines, _ := startVerb(t, "forward", id+":echo", "--key", friend)
	if got := exchange(nextLine(t, lines), []byte("hello")); string(got) != "hello" {
		t.Errorf("the friend got %q", got)
	}
	lines, _ = startVerb(t, "forward", id+":echo", "--key", stranger)
	if got := exchange(nextLine(t, lines), []byte("hello")); len(got) != 0 {
		t.Errorf("the stranger got %q", got)
	}
	// A ticket does not get around it.
	l := startJSON(t, strings.NewReader("secret"), "listen", "--allow", friendID)
	text, _ := l.want("ticket")["ticket"].(string)
	c := startJSON(t, strings.NewReader(""), "call", text, "--key", stranger, "--timeout", "5s")
	c.wait(exitRefused)
	if c.stdout.Len() != 0 {
		t.Errorf("the stranger got %q", c.stdout)
	}
	c = startJSON(t, strings.NewReader(""), "call", text, "--key", friend)
	c.wait(exitOK)
	if c.stdout.String() != "secret" {
		t.Errorf("the friend got %q", c.stdout)
	}
	l.wait(exitOK)
}

// TestWrongIdentity: whoever else answers gets nothing.
func TestWrongIdentity(t *testing.T) {
	t.Parallel()
	url := startRdvServer(t)
	l := startJSON(t, strings.NewReader("from somebody else"), "listen", "--server", url)
	text, _ := l.want("ticket")["ticket"].(string)
	forged, err := ticket.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	_, id := newKeyFile(t)
	if forged.Peer, err = peer.Decode(id); err != nil {
		t.Fatal(err)
	}
	c := startJSON(t, strings.NewReader("for friends only"), "call", forged.String())
	c.wait(exitIdentity)
	if c.stdout.Len() != 0 {
		t.Errorf("the caller got %q", c.stdout)
	}
	// Who listens goes on waiting, and has seen nothing.
	c = startJSON(t, strings.NewReader("hello"), "call", text)
	c.wait(exitOK)
	l.wait(exitOK)
	if l.stdout.String() != "hello" {
		t.Errorf("the listener got %q", l.stdout)
	}
}

// TestInterruptedIsNotTheEnd: what an interrupted caller has sent is not taken for
// all of it, by a listener or behind a forward.
func TestInterruptedIsNotTheEnd(t *testing.T) {
	l := startJSON(t, strings.NewReader(""), "listen", "--server", startRdvServer(t))
	text, _ := l.want("ticket")["ticket"].(string)
	in, w := io.Pipe()
	defer w.Close() //nolint:errcheck // always nil
	c := startJSON(t, in, "call", text)
	if _, err := io.WriteString(w, "the first half"); err != nil {
		t.Fatal(err)
	}
	c.want("connected")
	l.want("connected")
	c.stop()
	l.wait(exitOther)
	<-c.done

	t.Setenv(envPoint, startReachPoint(t, reach.Config{}))
	file, id := newKeyFile(t)
	up := startJSON(t, strings.NewReader(""), "up", "--key", file, "--expose", "echo="+startEcho(t))
	up.want("reachable")
	lines, _ := startVerb(t, "forward", id+":echo")
	conn, err := net.Dial("tcp", nextLine(t, lines))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over
	if _, err := io.WriteString(conn, "half"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	up.stop()
	if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read %d, %v", n, err)
	}
	<-up.done
}

// TestTwoPoints: one of two points may be dead.
func TestTwoPoints(t *testing.T) {
	const dead = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"
	t.Setenv(envPoint, dead+","+startReachPoint(t, reach.Config{}))
	file, id := newKeyFile(t)
	up := startJSON(t, strings.NewReader(""), "up", "--ns", "lab", "--name", "nas", "--key", file)
	for range 3 { // lab, lab/nas, and reachable, in any order
		up.want("registered", "reachable")
	}
	for _, whom := range []string{"lab/nas", id} {
		want(t, exitOK, "ping", whom, "--count", "1")
	}
	t.Setenv(envPoint, dead)
	want(t, exitUnreachable, "call", id)
	want(t, exitUnreachable, "call", "lab/nas")
	want(t, exitUnreachable, "listen")
}

func TestReachUsage(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for hint, args := range map[string][]string{
		"--point or MUSTER_POINT": {"call", "lab/nas"},
		"--server":                {"listen"},
		"no peer":                 {"call", "nonsense"},
		"is not a ticket":         {"call", "muster1"},
		"names no service":        {"forward", "lab/nas", "--point", somePoint},
		"a ticket is for one":     {"ping", "lab/nas:", "--point", somePoint},
		"--name needs --ns":       {"up", "--name", "nas", "--point", somePoint},
		"HOST:PORT":               {"up", "--expose", "ssh=22", "--point", somePoint},
		"name of a service":       {"up", "--expose", "_ping=127.0.0.1:22", "--point", somePoint},
		"is not exposed":          {"up", "--allow", "ssh=12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf", "--point", somePoint},
		"tickets only":            {},
	} {
		if len(args) == 0 {
			continue
		}
		code, _, stderr := musterRun(t.Context(), args...)
		if code != exitUsage || hint != "a ticket is for one" && hint != "is not a ticket" && !strings.Contains(stderr, hint) {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	}
}

// TestOutputBreaks: who cannot write what comes tells the peer.
func TestOutputBreaks(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	defer w.Close() //nolint:errcheck // always nil
	l := startJSON(t, r, "listen", "--server", startRdvServer(t))
	text, _ := l.want("ticket")["ticket"].(string)
	out, in := io.Pipe()
	_ = out.Close()
	ended := make(chan int, 1)
	go func() {
		ended <- run(t.Context(), []string{"call", text}, strings.NewReader("all of it"), in, io.Discard)
	}()
	if _, err := io.WriteString(w, "hello"); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != exitOther {
		t.Errorf("exit %d", code)
	}
	l.wait(exitOther)
}
