package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startListen runs 'muster discv5 listen' until the test ends and returns the
// first line that it prints.
func startListen(t *testing.T, args ...string) string {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, append([]string{"discv5", "listen", "--addr", "127.0.0.1:0"}, args...), nil, w, io.Discard)
		_ = w.Close() // never fails
	}()
	t.Cleanup(func() {
		cancel()
		_ = r.Close() // never fails
		if code := <-done; code != exitOK {
			t.Errorf("listen ended with %d", code)
		}
	})
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("listen printed nothing: %v", err)
	}
	return strings.TrimSpace(line)
}

// command runs a verb and returns what it printed and its exit code.
func command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader("from stdin"), &out, &errs)
	return out.String(), errs.String(), code
}

func TestDiscv5Verbs(t *testing.T) {
	boot := startListen(t)
	other := startListen(t, "--bootnode", boot)
	for _, tt := range []struct {
		args []string
		want string // in stdout
		code int
	}{
		{[]string{"ping", boot}, "pong from", exitOK},
		{[]string{"ping", "--json", boot}, `"endpoint":"127.0.0.1:`, exitOK},
		{[]string{"findnode", boot}, boot, exitOK},
		{[]string{"findnode", boot, "1,2"}, "", exitNotFound},
		{[]string{"talk", boot, "nosuch", "-"}, "", exitOK},
		{[]string{"talk", "--json", boot, "nosuch", "hi"}, `"response":""`, exitOK},
		{[]string{"lookup", boot}, boot, exitOK},
		{[]string{"lookup", "--json", boot, strings.Repeat("ab", 32)}, `"enr":"` + boot, exitOK},
		{[]string{"resolve", boot}, boot, exitOK},
		{[]string{"resolve", other}, other, exitOK},
		{[]string{"crawl", boot}, `"alive":true`, exitOK},
	} {
		stdout, stderr, code := command(t, append([]string{"discv5"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stdout, tt.want) {
			t.Errorf("%v: exit %d, stdout %q, stderr %q; want exit %d and %q", tt.args, code, stdout, stderr, tt.code, tt.want)
		}
	}
}

func TestDiscv5TimeOut(t *testing.T) {
	boot := startListen(t)
	dead, _, code := command(t, "enr", "new", "--key", filepath.Join(t.TempDir(), "key"), "--ip", "127.0.0.1", "--udp", "1")
	if code != exitOK {
		t.Fatalf("enr new: exit %d", code)
	}
	dead = strings.TrimSpace(dead)
	for _, args := range [][]string{
		{"ping", dead, "--timeout", "100ms"},
		{"findnode", dead, "--timeout", "100ms"},
		{"talk", dead, "x", "--timeout", "100ms"},
		{"lookup", dead, "--timeout", "100ms"},
		{"resolve", dead, "--timeout", "100ms"},
		{"crawl", dead, "--timeout", "100ms"},
	} {
		if stdout, stderr, code := command(t, append([]string{"discv5"}, args...)...); code != exitTimeout {
			t.Errorf("%v: exit %d, stdout %q, stderr %q; want %d", args, code, stdout, stderr, exitTimeout)
		}
	}
	if _, _, code := command(t, "discv5", "resolve", boot, strings.Repeat("ab", 32)); code != exitNotFound {
		t.Errorf("resolve of an unknown ID: exit %d, want %d", code, exitNotFound)
	}
}

// TestDiscv5CannotStart: the hint is about what is wrong.
func TestDiscv5CannotStart(t *testing.T) {
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // nothing is lost with it
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "discv5-seq"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		port bool
	}{
		{[]string{"--addr", taken.LocalAddr().String()}, true},
		{[]string{"--addr", "127.0.0.1:0", "--db", dir}, false},
	} {
		_, stderr, code := command(t, append([]string{"discv5", "listen"}, tt.args...)...)
		if code != exitLocal || strings.Contains(stderr, "port in use") != tt.port {
			t.Errorf("%v: exit %d, %s", tt.args, code, stderr)
		}
	}
}

// TestDiscv5Restart checks that a restarted node keeps its identity and that
// its record counts as newer.
func TestDiscv5Restart(t *testing.T) {
	dir := t.TempDir()
	args := []string{"--key", filepath.Join(dir, "key"), "--db", filepath.Join(dir, "db"), "--json"}
	var seqs []float64
	var ids []any
	for range 2 {
		t.Run("run", func(t *testing.T) {
			var v map[string]any
			if err := json.Unmarshal([]byte(startListen(t, args...)), &v); err != nil {
				t.Fatal(err)
			}
			seqs = append(seqs, v["seq"].(float64))
			ids = append(ids, v["id"])
		})
	}
	if ids[0] != ids[1] || seqs[1] <= seqs[0] {
		t.Errorf("identities %v, numbers %v", ids, seqs)
	}
}

// TestDiscv5Crawl checks what a crawl prints: an object for each node on
// stdout, and the histogram on stderr; and what a person sees meanwhile.
func TestDiscv5Crawl(t *testing.T) {
	boot := startListen(t)
	startListen(t, "--bootnode", boot)
	stdout, stderr, code := command(t, "discv5", "crawl", "--histogram", boot)
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	for _, line := range lines {
		var v crawlView
		if err := json.Unmarshal([]byte(line), &v); err != nil || !v.Alive || !strings.HasPrefix(v.ENR, "enr:") {
			t.Errorf("line %q: %v", line, err)
		}
	}
	if lines[0] == "" || !strings.Contains(stderr, "answered") || !strings.Contains(stderr, " #") {
		t.Errorf("stdout %q, stderr %q", stdout, stderr)
	}

	var screen bytes.Buffer
	c := crawlReport{e: &env{stderr: &screen}, meter: &meter{w: &screen, columns: func() int { return usualColumns }}, start: time.Now()}
	c.n, c.alive = 3, 2
	c.progress(10)
	c.finish(false)
	if s := screen.String(); !strings.Contains(s, "2 answered") || !strings.Contains(s, "3 nodes, 2 answered") {
		t.Errorf("screen %q", s)
	}
}
