//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A pointProcess is 'muster serve' as a process, which can be killed.
type pointProcess struct {
	cmd  *exec.Cmd
	addr string
	dir  string
}

func startProcess(t *testing.T, args ...string) *pointProcess {
	t.Helper()
	p := &pointProcess{dir: filepath.Join(t.TempDir(), "data")}
	p.cmd = exec.Command("muster", append([]string{
		"serve", "--json", "--data-dir", p.dir, "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0", "--admin", "",
		"--discv5=false", "--pubsub=false", "--drain", "1s",
	}, args...)...)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b, _ := io.ReadAll(said)
		t.Fatalf("%v: %s", err, b)
	}
	p.addr = strings.TrimSpace(line)
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(said)
		for lines.Scan() {
			event := map[string]any{}
			if json.Unmarshal(lines.Bytes(), &event) == nil && event["event"] == "ready" {
				ready <- true
			}
		}
		close(ready)
	}()
	if !<-ready {
		t.Fatal("ended before it was ready")
	}
	return p
}

// kill ends the process without a word.
func (p *pointProcess) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	_ = p.cmd.Wait()
}

// TestCallOverOneDatabase: a peer that keeps its stream to one point is found
// and called by way of the others; one that keeps two is when a point dies.
func TestCallOverOneDatabase(t *testing.T) {
	store := newDatabase(t)
	args := []string{"--store", store, "--relay-access", "open", "--i-know-this-is-an-open-relay"}
	a, b, c := startProcess(t, args...), startProcess(t, args...), startProcess(t, args...)
	startUp := func(name string, points ...*pointProcess) (id string) {
		key, id := newKeyFile(t)
		args := []string{"up", "--ns", "lab", "--name", name, "--key", key, "--expose", "echo=" + startEcho(t)}
		for _, p := range points {
			args = append(args, "--point", p.addr)
		}
		up := startJSON(t, strings.NewReader(""), args...)
		for range 2 + len(points) { // lab, lab/NAME, and reachable at each
			up.want("registered", "reachable")
		}
		for _, p := range []*pointProcess{a, b, c} {
			if p.cmd.ProcessState == nil {
				wantNamed(t, p.addr, "lab", id)
				wantNamed(t, p.addr, "lab/"+name, id)
			}
		}
		return id
	}
	nas, box := startUp("nas", a), startUp("box", a, b)
	for _, p := range []*pointProcess{b, c} {
		if out := want(t, exitOK, "find", "lab", "--point", p.addr); !strings.Contains(out, nas) || !strings.Contains(out, box) {
			t.Errorf("found %q", out)
		}
		for _, whom := range []string{"lab/nas", nas, "lab/box"} {
			want(t, exitOK, "ping", whom, "--count", "1", "--point", p.addr)
			want(t, exitOK, "ping", whom, "--count", "1", "--point", p.addr, "--relay")
		}
	}
	want(t, exitOK, "ping", "lab/nas", "--count", "1", "--point", a.addr, "--point", b.addr, "--point", c.addr)

	key, id := newKeyFile(t)
	l := startJSON(t, strings.NewReader("hello"), "listen", "--ns", "lab", "--name", "pipe", "--key", key, "--point", a.addr)
	for range 3 { // under two names, and by calls
		l.want("registered", "reachable")
	}
	call := startJSON(t, strings.NewReader(""), "call", id, "--relay", "--point", b.addr)
	call.wait(exitOK)
	l.wait(exitOK)
	if call.stdout.String() != "hello" {
		t.Errorf("got %q", call.stdout)
	}

	a.kill()
	want(t, exitOK, "ping", "lab/box", "--count", "1", "--point", c.addr)
	code, _, errs := musterRun(t.Context(), "ping", "lab/nas", "--count", "1", "--point", c.addr)
	if code != exitUnreachable || !strings.Contains(errs, "does not answer") {
		t.Errorf("at a point that has died: exit %d, %s", code, errs)
	}
	startUp("nas2", b) // and is called again when it waits elsewhere
	want(t, exitOK, "ping", "lab/nas2", "--count", "1", "--point", c.addr)
}

// TestTokensOverOneDatabase: a token is issued for all points, pays at all of
// them from one quota, and is revoked at all of them.
func TestTokensOverOneDatabase(t *testing.T) {
	store := newDatabase(t)
	// Before the points are there: one that runs hears of a token a moment
	// later, and who is refused comes back after half a minute.
	var issued struct{ ID, Token string }
	if err := json.Unmarshal([]byte(want(t, exitOK, "token", "issue", "--store", store, "--quota", "1M", "--json")), &issued); err != nil {
		t.Fatal(err)
	}
	a, b := startProcess(t, "--store", store), startProcess(t, "--store", store)
	if code, _, errs := musterRun(t.Context(), "token", "issue", "--data-dir", a.dir); code != exitUsage || !strings.Contains(errs, "--store") {
		t.Errorf("in a directory that nobody reads: exit %d, %s", code, errs)
	}
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(issued.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	key, id := newKeyFile(t)
	up := startJSON(t, strings.NewReader(""), "up", "--key", key, "--token-file", tokenFile, "--point", a.addr, "--expose", "echo="+startEcho(t))
	up.want("reachable")
	want(t, exitOK, "ping", id, "--count", "1", "--relay", "--point", b.addr)
	used := func() (n int) {
		var line struct{ Used int }
		if err := json.Unmarshal([]byte(want(t, exitOK, "token", "ls", "--store", store, "--json")), &line); err != nil {
			t.Fatal(err)
		}
		return line.Used
	}
	for late := time.Now().Add(20 * time.Second); used() == 0; {
		if time.Now().After(late) {
			t.Fatal("nothing is counted")
		}
	}
	want(t, exitOK, "token", "revoke", issued.ID, "--store", store)
	for late := time.Now().Add(20 * time.Second); ; {
		code, _, errs := musterRun(t.Context(), "ping", id, "--count", "1", "--relay", "--point", b.addr)
		if code == exitRefused {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("after the token was revoked: exit %d, %s", code, errs)
		}
	}
	c := startProcess(t, "--store", store)
	denied := startJSON(t, strings.NewReader(""), "up", "--token-file", tokenFile, "--point", c.addr, "--expose", "echo="+startEcho(t))
	if e := denied.want("unreachable"); !strings.Contains(e["error"].(string), "does not let us") {
		t.Errorf("at a point that has begun since: %v", e)
	}
}

// TestServeDamagedToken: a token that cannot be read is named, and the point
// goes on.
func TestServeDamagedToken(t *testing.T) {
	d := startDaemon(t, "--discv5=false", "--pubsub=false")
	want(t, exitOK, "token", "issue", "--data-dir", d.dir)
	file := filepath.Join(d.dir, tokensDir, "aaaaaaab.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.waitFor(`"event":"reloaded"`)
	if code, body := d.get("/readyz?format=json"); code != 503 || !strings.Contains(body, "aaaaaaab") {
		t.Errorf("ready: %d %s", code, body)
	}
	code, out, errs := musterRun(t.Context(), "token", "ls", "--data-dir", d.dir)
	if code != exitOK || strings.Count(out, "\n") != 1 || !strings.Contains(errs, "aaaaaaab") {
		t.Errorf("exit %d, %q, %s", code, out, errs)
	}
	want(t, exitOK, "token", "revoke", "aaaaaaab", "--data-dir", d.dir)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.waitFor(`"event":"reloaded"`)
	if code, body := d.get("/readyz"); code != 200 {
		t.Errorf("ready: %d %s", code, body)
	}
}
