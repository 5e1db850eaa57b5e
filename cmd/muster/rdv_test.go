package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// startRdvServer returns the URL of a server.
func startRdvServer(t *testing.T, args ...string) string {
	t.Helper()
	lines, _ := startVerb(t, append([]string{"rdv", "serve", "--listen", "127.0.0.1:0", "--drain", "0s"}, args...)...)
	return nextLine(t, lines)
}

// piped is one end of a pipe that a verb makes.
type piped struct {
	code           int
	stdout, stderr bytes.Buffer
}

// runPair runs dial and accept with what they read on stdin.
func runPair(t *testing.T, url string, dialIn, acceptIn io.Reader, args ...string) (dial, accept piped) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, side := range []struct {
		verb string
		in   io.Reader
		p    *piped
	}{{"dial", dialIn, &dial}, {"accept", acceptIn, &accept}} {
		wg.Go(func() {
			side.p.code = run(ctx, append([]string{"rdv", side.verb, url, "t0ken"}, args...), side.in, &side.p.stdout, &side.p.stderr)
		})
	}
	wg.Wait()
	return dial, accept
}

// gate is an input that begins when another stream has ended.
type gate struct {
	open <-chan struct{}
	r    io.Reader
}

func (g gate) Read(p []byte) (int, error) {
	<-g.open
	return g.r.Read(p)
}

// TestRdvPipe: what goes in at one end comes out at the other, in both
// directions, on both paths; and the end of one direction does not end the
// other.
func TestRdvPipe(t *testing.T) {
	t.Parallel()
	url := startRdvServer(t)
	// Without --wait a machine that stands still for a second gets the relay.
	for path, args := range map[string][]string{"direct": {"--wait"}, "relay": {"--spaces", "none"}} {
		there, back := strings.Repeat("there\n", 200_000), strings.Repeat("back\n", 100_000)
		dialEnded := make(chan struct{})
		in := io.MultiReader(strings.NewReader(there), readerFunc(func([]byte) (int, error) {
			close(dialEnded)
			return 0, io.EOF
		}))
		// The answer begins after the end of the question.
		dial, accept := runPair(t, url, in, gate{dialEnded, strings.NewReader(back)}, append(args, "--json")...)
		if dial.code != exitOK || accept.code != exitOK {
			t.Fatalf("%s: exit %d, %d\n%s%s", path, dial.code, accept.code, &dial.stderr, &accept.stderr)
		}
		if accept.stdout.String() != there || dial.stdout.String() != back {
			t.Errorf("%s: %d bytes there, %d back, want %d, %d", path, accept.stdout.Len(), dial.stdout.Len(), len(there), len(back))
		}
		var connected struct {
			Event, Path, Addr string
			MS                float64
		}
		dec := json.NewDecoder(&dial.stderr)
		if err := dec.Decode(&connected); err != nil || connected.Event != "connected" || connected.Path != path || connected.Addr == "" || connected.MS <= 0 {
			t.Errorf("%s: event %+v, %v", path, connected, err)
		}
		var closed struct {
			Event          string
			Sent, Received int
		}
		if err := dec.Decode(&closed); err != nil || closed.Event != "closed" || closed.Sent != len(there) || closed.Received != len(back) {
			t.Errorf("%s: event %+v, %v", path, closed, err)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestRdvPeople: without --json, one line says path, address and duration.
func TestRdvPeople(t *testing.T) {
	t.Parallel()
	dial, accept := runPair(t, startRdvServer(t), strings.NewReader("x"), strings.NewReader(""), "--spaces", "all", "--wait")
	for _, p := range []*piped{&dial, &accept} {
		line, _, _ := strings.Cut(p.stderr.String(), "\n")
		if p.code != exitOK || !strings.HasPrefix(line, "connected path=direct addr=") || !strings.Contains(line, " dur=") {
			t.Errorf("exit %d: %q", p.code, &p.stderr)
		}
	}
}

func TestRdvExitCodes(t *testing.T) {
	url := startRdvServer(t, "--lobby-timeout", "10ms")
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := dead.Addr().String()
	defer dead.Close()               //nolint:errcheck // a test
	refusing := "http://127.0.0.1:1" // tcpmux, which nobody runs
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	for _, c := range []struct {
		code int
		args []string
	}{
		{exitUsage, []string{"rdv", "dial", url}},
		{exitUsage, []string{"rdv", "dial", url, "t", "--spaces", "some"}},
		{exitUsage, []string{"rdv", "dial", "ftp://127.0.0.1", "t"}},
		{exitUsage, []string{"rdv", "dial", url, "--token-file", filepath.Join(t.TempDir(), "none")}},
		{exitUsage, []string{"rdv", "nosuch"}},
		{exitTimeout, []string{"rdv", "accept", url, "alone"}},
		{exitTimeout, []string{"rdv", "accept", "http://" + silent, "t", "--timeout", "50ms"}},
		{exitUnreachable, []string{"rdv", "dial", refusing, "t"}},
		{exitVersion, []string{"rdv", "dial", web.URL, "t"}},
	} {
		if code, _, stderr := musterRun(t.Context(), c.args...); code != c.code {
			t.Errorf("%v: exit %d, want %d: %s", c.args, code, c.code, stderr)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, _, _ := musterRun(ctx, "rdv", "dial", "http://"+silent, "t"); code != exitSignal+2 {
		t.Errorf("interrupted: exit %d", code)
	}
}

// TestRdvBearer: a server with a token file lets in who has a token of it, and
// no token has to be in an argument.
func TestRdvBearer(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tokens")
	if err := os.WriteFile(file, []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := startRdvServer(t, "--token-file", file)
	dial, accept := runPair(t, url, strings.NewReader(""), strings.NewReader(""))
	if dial.code != exitRefused || accept.code != exitRefused || !strings.Contains(dial.stderr.String(), "--bearer-file") {
		t.Errorf("without: exit %d, %d: %s", dial.code, accept.code, &dial.stderr)
	}
	if dial, accept = runPair(t, url, strings.NewReader("x"), strings.NewReader(""), "--bearer-file", file); dial.code != exitOK || accept.code != exitOK {
		t.Errorf("with --bearer-file: exit %d, %d: %s", dial.code, accept.code, &dial.stderr)
	}
	t.Setenv("MUSTER_TOKEN_FILE", file)
	if dial, accept = runPair(t, url, strings.NewReader("x"), strings.NewReader("")); dial.code != exitOK || accept.code != exitOK {
		t.Errorf("with MUSTER_TOKEN_FILE: exit %d, %d: %s", dial.code, accept.code, &dial.stderr)
	}
	t.Setenv("MUSTER_TOKEN_FILE", "")
	t.Setenv("MUSTER_TOKEN", "sesame")
	if dial, accept = runPair(t, url, strings.NewReader("x"), strings.NewReader("")); dial.code != exitOK || accept.code != exitOK {
		t.Errorf("with MUSTER_TOKEN: exit %d, %d: %s", dial.code, accept.code, &dial.stderr)
	}
}
