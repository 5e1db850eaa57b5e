//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
	clearEnv(t)
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
	for range 2 {
		l.want("registered")
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
