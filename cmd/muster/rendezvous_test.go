package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/rendezvous"
)

// muster runs the command and returns its exit code and output.
func musterRun(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// startVerb runs a verb until the test ends, or until stop is called, which
// returns its exit code, and returns its output line by line.
func startVerb(t *testing.T, args ...string) (lines *bufio.Scanner, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	var errs bytes.Buffer
	var code int
	var wg sync.WaitGroup
	wg.Go(func() {
		code = run(ctx, args, strings.NewReader(""), w, &errs)
		_ = w.CloseWithError(fmt.Errorf("muster %v: exit %d: %s", args, code, &errs))
	})
	stop = sync.OnceValue(func() int {
		cancel()
		go func() { _, _ = io.Copy(io.Discard, r) }()
		wg.Wait()
		return code
	})
	t.Cleanup(func() { stop() })
	return bufio.NewScanner(r), stop
}

func nextLine(t *testing.T, s *bufio.Scanner) string {
	t.Helper()
	if !s.Scan() {
		t.Fatal(s.Err())
	}
	return s.Text()
}

func startPoint(t *testing.T, args ...string) string {
	t.Helper()
	lines, _ := startVerb(t, append([]string{"rendezvous", "serve", "--listen", "/ip4/127.0.0.1/tcp/0"}, args...)...)
	return nextLine(t, lines)
}

func want(t *testing.T, wantCode int, args ...string) string {
	t.Helper()
	code, out, errs := musterRun(t.Context(), args...)
	if code != wantCode {
		t.Errorf("muster %s: exit %d, want %d\n%s%s", strings.Join(args, " "), code, wantCode, out, errs)
	}
	return out
}

func TestRendezvousVerbs(t *testing.T) {
	const addr = "/ip4/192.0.2.1/tcp/4001"
	point := startPoint(t, "--waku", "--min-ttl", "2s")
	key := filepath.Join(t.TempDir(), "key")
	id := strings.TrimSpace(want(t, exitOK, "key", "new", key))
	rdv := func(args ...string) []string {
		return append(append([]string{"rendezvous"}, args...), "--point", point)
	}
	want(t, exitNotFound, rdv("discover", "lab")...)
	if got := want(t, exitOK, rdv("register", "lab", "--key", key, "--addr", addr)...); got != "7200\n" {
		t.Errorf("granted %q", got)
	}
	if got := want(t, exitOK, rdv("register", "lab", "--key", key, "--addr", addr, "--ttl", "100s", "--json")...); got != "{\"ttl\":100}\n" {
		t.Errorf("granted %q", got)
	}
	if got := strings.Split(strings.TrimSpace(want(t, exitOK, rdv("discover", "lab")...)), "\t"); len(got) != 4 || got[0] != id || got[1] != addr || got[3] != "lab" {
		t.Errorf("discover prints %q", got)
	}
	want(t, exitOK, rdv("register", "lab", "--addr", addr)...) // somebody else
	var cookie string
	for range 3 {
		args := []string{"discover", "lab", "--json", "--limit", "1"}
		if cookie != "" {
			args = append(args, "--cookie", cookie)
		}
		for line := range strings.Lines(want(t, exitOK, rdv(args...)...)) {
			var obj struct {
				Peer, Cookie string
				Addresses    []string
				TTL          int
				NS           string
			}
			if err := json.Unmarshal([]byte(line), &obj); err != nil {
				t.Fatal(err)
			}
			if obj.Cookie != "" {
				cookie = obj.Cookie
			} else if obj.Peer == "" || len(obj.Addresses) != 1 || obj.TTL == 0 || obj.NS != "lab" {
				t.Errorf("record %s", line)
			}
		}
	}
	if got := want(t, exitOK, rdv("discover", "lab", "--cookie", cookie, "--json")...); strings.Count(got, "\n") != 1 {
		t.Errorf("nothing is new, but: %s", got)
	}
	want(t, exitOK, rdv("unregister", "lab", "--key", key)...)
	if got := want(t, exitOK, rdv("discover", "lab")...); strings.Count(got, "\n") != 1 || strings.Contains(got, id) {
		t.Errorf("after unregister: %q", got)
	}

	if got := want(t, exitOK, rdv("register", "lab", "--key", key, "--addr", addr, "--waku")...); got != "20\n" {
		t.Errorf("Waku grants %q", got)
	}
	if got := want(t, exitOK, rdv("discover", "lab", "--waku")...); !strings.HasPrefix(got, id) {
		t.Errorf("Waku finds %q", got)
	}
}

func TestRendezvousKeepAndWatch(t *testing.T) {
	point := startPoint(t)
	watch, stopWatch := startVerb(t, "rendezvous", "watch", "lab", "--point", point, "--interval", "10ms", "--json")
	keep, stopKeep := startVerb(t, "rendezvous", "register", "lab", "--point", point, "--keep")
	if got := nextLine(t, keep); got != "7200" {
		t.Errorf("granted %s", got)
	}
	if got := nextLine(t, watch); !strings.HasPrefix(got, `{"event":"joined","peer":"12D3KooW`) {
		t.Errorf("watch prints %s", got)
	}
	if code := stopKeep(); code != exitOK {
		t.Errorf("keep ends with %d", code)
	}
	want(t, exitNotFound, "rendezvous", "discover", "lab", "--point", point)
	if code := stopWatch(); code != exitOK {
		t.Errorf("watch ends with %d", code)
	}
}

func TestRendezvousExitCodes(t *testing.T) {
	const addr = "/ip4/192.0.2.1/tcp/4001"
	point := startPoint(t)
	other := startPoint(t)
	at := strings.LastIndex(point, "/")
	wrong := point[:at] + other[strings.LastIndex(other, "/"):]
	for _, tt := range []struct {
		code int
		args []string
	}{
		{exitUsage, []string{"register", "lab"}},
		{exitUsage, []string{"register", "lab", "--point", "nonsense"}},
		{exitUsage, []string{"register", "lab", "--point", "/ip4/127.0.0.1/tcp/1"}},
		{exitUsage, []string{"register", "--point", point}},
		{exitUsage, []string{"register", "", "--point", point, "--addr", addr}},
		{exitUsage, []string{"register", "lab", "--point", point, "--addr", "nonsense"}},
		{exitUsage, []string{"discover", "lab", "--point", point, "--cookie", "xyz"}},
		{exitUsage, []string{"unregister", "lab", "--point", point}},
		{exitUsage, []string{"serve", "--store", "floppy"}},
		{exitUsage, []string{"serve", "--durability", "perhaps"}},
		{exitUsage, []string{"serve", "--min-ttl", "100h"}},
		{exitIdentity, []string{"discover", "lab", "--point", wrong}},
		{exitRefused, []string{"register", "lab", "--point", point, "--addr", addr, "--ttl", "1s"}},
		{exitRefused, []string{"discover", "", "--point", point}},
		{exitUnreachable, []string{"discover", "lab", "--point", "/ip4/127.0.0.1/tcp/1" + point[strings.Index(point, "/p2p/"):]}},
		{exitVersion, []string{"discover", "lab", "--point", point, "--waku"}},
		{exitTimeout, []string{"discover", "lab", "--point", point, "--timeout", "1us"}},
	} {
		want(t, tt.code, append([]string{"rendezvous"}, tt.args...)...)
	}
}

// Registrations outlive a point that keeps them, for as long as they live.
func TestRendezvousServePebble(t *testing.T) {
	dir := t.TempDir()
	args := []string{
		"rendezvous", "serve", "--listen", "/ip4/127.0.0.1/tcp/0",
		"--store", "pebble:" + filepath.Join(dir, "db"), "--key", filepath.Join(dir, "key"),
	}
	lines, stop := startVerb(t, args...)
	point := nextLine(t, lines)
	want(t, exitOK, "rendezvous", "register", "lab", "--point", point, "--addr", "/ip4/192.0.2.1/tcp/1")
	if code := stop(); code != exitOK {
		t.Fatalf("serve ends with %d", code)
	}
	lines, _ = startVerb(t, args...)
	point = nextLine(t, lines)
	if got := want(t, exitOK, "rendezvous", "discover", "lab", "--point", point); strings.Count(got, "\n") != 1 {
		t.Errorf("after a restart: %q", got)
	}
}

// TestFoundIsOneLine: an address is a stranger's text as well, and a DNS name
// in it may hold anything but a slash.
func TestFoundIsOneLine(t *testing.T) {
	addr, err := ma.NewMultiaddr("/dns4/a\x1b[2J\nb\tc/tcp/1")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var found rendezvous.Found
	found.Addrs = []ma.Multiaddr{addr}
	if err := new(rendezvousFlags).printFound(&env{stdout: &out}, found, ""); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); strings.Count(s, "\n") != 1 || strings.Count(s, "\t") != 3 || strings.Contains(s, "\x1b") {
		t.Errorf("printed %q", s)
	}
}
