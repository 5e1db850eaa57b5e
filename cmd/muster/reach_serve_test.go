//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReachAtServe: at a closed point, the token of who is called pays for the
// callers, and without one nobody is called and no ticket made.
func TestReachAtServe(t *testing.T) {
	d := startDaemon(t, "--discv5=false", "--pubsub=false")
	t.Setenv(envPoint, d.addr)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(want(t, exitOK, "token", "issue", "--data-dir", d.dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	key, id := newKeyFile(t)
	denied := startJSON(t, strings.NewReader(""), "up", "--key", key)
	if e := denied.want("unreachable"); !strings.Contains(e["error"].(string), "does not let us") {
		t.Errorf("without a token: %v", e)
	}
	denied.stop()
	<-denied.done
	want(t, exitRefused, "listen")
	up := startJSON(t, strings.NewReader(""), "up", "--ns", "lab", "--name", "nas", "--key", key, "--token-file", tokenFile, "--expose", "echo="+startEcho(t))
	for range 3 { // lab, lab/nas, and reachable, in any order
		up.want("registered", "reachable")
	}
	for _, whom := range []string{"lab/nas", id} {
		want(t, exitOK, "ping", whom, "--count", "1")
		want(t, exitOK, "ping", whom, "--count", "1", "--relay")
	}
	lines, _ := startVerb(t, "forward", "lab/nas:echo", "--relay")
	if got := exchange(nextLine(t, lines), []byte("hello")); string(got) != "hello" {
		t.Errorf("got %q", got)
	}
	l := startJSON(t, strings.NewReader("hello"), "listen", "--token-file", tokenFile)
	text, _ := l.want("ticket")["ticket"].(string)
	c := startJSON(t, strings.NewReader(""), "call", text, "--relay")
	c.wait(exitOK)
	l.wait(exitOK)
	if c.stdout.String() != "hello" {
		t.Errorf("by ticket: %q", c.stdout)
	}
	// A point that stops says so, and is found again.
	d.stop()
	up.want("unreachable")
}
