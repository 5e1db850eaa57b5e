package main

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/ticket"
)

// writeFiles writes files with the given content below a new directory.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func wantFile(t *testing.T, content string, path ...string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(path...))
	if err != nil || !bytes.Equal(got, []byte(content)) {
		t.Errorf("%s: %d bytes, %v, want %d", filepath.Join(path...), len(got), err, len(content))
	}
}

func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return string(b)
}

// ticketOf waits for the ticket that a verb shows.
func ticketOf(r *running) string {
	r.t.Helper()
	text, _ := r.want("ticket")["ticket"].(string)
	return text
}

// TestSendRecv: files and folders go by the ticket of the sender, at any
// server and at a point; again they are there already.
func TestSendRecv(t *testing.T) {
	t.Parallel()
	big := randomText(3 << 20)
	from := writeFiles(t, map[string]string{"big": big, "dir/sub/x": "x", "dir/empty": ""})
	for name, flags := range map[string][]string{
		"server": {"--server", startRdvServer(t)},
		"point":  {"--point", startReachPoint(t, reach.Config{})},
	} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "made")
			for i := range 2 {
				s := startJSON(t, strings.NewReader(""), append([]string{"send", from + "/big", from + "/dir"}, flags...)...)
				text := ticketOf(s)
				if len(text) > ticket.MaxText {
					t.Errorf("a ticket of %d characters", len(text))
				}
				r := startJSON(t, strings.NewReader(""), "recv", text, "--out", to)
				if e := r.want("connected"); e["path"] != "relay" && e["path"] != "direct" {
					t.Errorf("%v", e)
				}
				if e := r.want("offer"); e["files"] != 3.0 || e["bytes"] != float64(len(big)+1) {
					t.Errorf("%v", e)
				}
				done := r.want("done")
				r.wait(exitOK)
				s.wait(exitOK)
				if want := []float64{0, 3}[i]; done["same_files"] != want {
					t.Errorf("attempt %d: %v", i, done)
				}
				wantFile(t, big, to, "big")
				wantFile(t, "x", to, "dir/sub/x")
				wantFile(t, "", to, "dir/empty")
				if got, want := r.stdout.String(), `{"path":"`+to+`/big"}`+"\n"+`{"path":"`+to+`/dir"}`+"\n"; got != want {
					t.Errorf("stdout %q, want %q", got, want)
				}
				if s.stdout.Len() > 0 {
					t.Errorf("the sender's stdout has %q", s.stdout)
				}
			}
		})
	}
}

// TestSendTo: a peer that waits gets files by ticket, by its ID and by name.
func TestSendTo(t *testing.T) {
	t.Setenv(envPoint, startReachPoint(t, reach.Config{}))
	file, id := newKeyFile(t)
	from := writeFiles(t, map[string]string{"f": "content"})
	for _, by := range []string{"ticket", id, "lab/nas"} {
		to := t.TempDir()
		r := startJSON(t, strings.NewReader(""), "recv", "--yes", "--out", to, "--key", file, "--ns", "lab", "--name", "nas")
		whom := ticketOf(r)
		if by != "ticket" {
			whom = by
		}
		for range 3 { // lab, lab/nas, and reachable, in any order
			r.want("registered", "reachable")
		}
		s := startJSON(t, strings.NewReader(""), "send", from+"/f", "--to", whom)
		s.wait(exitOK)
		r.wait(exitOK)
		wantFile(t, "content", to, "f")
	}
	want(t, exitNotFound, "send", from+"/f", "--to", "lab/nas")
	want(t, exitNotFound, "send", from+"/f", "--to", id)
}

// TestRecvResumes: a receiver that is interrupted goes on where it ended, with
// the same ticket.
func TestRecvResumes(t *testing.T) {
	t.Parallel()
	big := randomText(8 << 20)
	from, to := writeFiles(t, map[string]string{"big": big}), t.TempDir()
	url := startRdvServer(t)
	s := startJSON(t, strings.NewReader(""), "send", from+"/big", "--server", url)
	text := ticketOf(s)
	c := startCable(t, url, 2<<20)
	r := startJSON(t, strings.NewReader(""), "recv", text, "--out", to, "--server", c.url, "--relay")
	r.want("progress")
	r.stop()
	s.want("broken")
	c.release() // what is under way has to come through
	r.wait(exitSignal + 2)
	if names, err := os.ReadDir(to); err != nil || len(names) != 1 || names[0].Name() == "big" {
		t.Errorf("left %v, %v", names, err)
	}
	r = startJSON(t, strings.NewReader(""), "recv", text, "--out", to)
	if e := r.want("done"); e["kept"] == 0.0 || e["kept"].(float64)+e["moved"].(float64) != float64(len(big)) {
		t.Errorf("%v", e)
	}
	r.wait(exitOK)
	s.wait(exitOK)
	wantFile(t, big, to, "big")
	if names, err := os.ReadDir(to); err != nil || len(names) != 1 {
		t.Errorf("left %v, %v", names, err)
	}
}

// TestRecvComesAgain: a receiver that vanishes without a word holds nobody up,
// though the sender's link waits for it.
func TestRecvComesAgain(t *testing.T) {
	t.Parallel()
	big := randomText(8 << 20)
	from, to := writeFiles(t, map[string]string{"big": big}), t.TempDir()
	url := startRdvServer(t)
	s := startJSON(t, strings.NewReader(""), "send", from+"/big", "--server", url)
	text := ticketOf(s)
	c := startCable(t, url, 2<<20)
	lost := startJSON(t, strings.NewReader(""), "recv", text, "--out", filepath.Join(t.TempDir(), "lost"), "--server", c.url, "--relay")
	lost.want("progress")
	c.cut()
	lost.stop() // its last words reach nobody
	r := startJSON(t, strings.NewReader(""), "recv", text, "--out", to)
	r.wait(exitOK)
	s.wait(exitOK)
	wantFile(t, big, to, "big")
}

// A cable leads to a server. From there it passes some bytes, and the rest when
// it is released, until it is cut.
type cable struct {
	url          string
	release, cut func()
}

func startCable(t *testing.T, to string, passes int64) cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	conns := []io.Closer{l}
	open := make(chan struct{})
	var wg sync.WaitGroup
	join := func(near, far net.Conn) {
		over := func() { _, _ = near.Close(), far.Close() }
		wg.Go(func() {
			defer over()
			_, _ = io.Copy(far, near)
		})
		wg.Go(func() {
			defer over()
			if _, err := io.CopyN(near, far, passes); err == nil {
				<-open
				_, _ = io.Copy(near, far)
			}
		})
	}
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(to, "http:"), "/"))
			if err != nil {
				_ = near.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, near, far)
			mu.Unlock()
			join(near, far)
		}
	})
	c := cable{url: "http://" + l.Addr().String(), release: sync.OnceFunc(func() { close(open) })}
	c.cut = func() {
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		conns = nil
		mu.Unlock()
		c.release()
	}
	t.Cleanup(func() {
		c.cut()
		wg.Wait()
	})
	return c
}

func TestRecvDoesNotOverwrite(t *testing.T) {
	t.Parallel()
	from, to := writeFiles(t, map[string]string{"f": "new"}), writeFiles(t, map[string]string{"f": "old"})
	s := startJSON(t, strings.NewReader(""), "send", from+"/f", "--server", startRdvServer(t))
	text := ticketOf(s)
	code, _, errs := musterRun(t.Context(), "recv", text, "--out", to)
	if code != exitLocal || !strings.Contains(errs, `"f"`) || !strings.Contains(errs, "--overwrite") {
		t.Errorf("exit %d: %s", code, errs)
	}
	wantFile(t, "old", to, "f")
	s.want("broken")
	want(t, exitOK, "recv", text, "--out", to, "--overwrite")
	s.wait(exitOK)
	wantFile(t, "new", to, "f")
}

// TestTransferIdentity: whoever answers in place of the peer of the ticket gets
// and gives nothing.
func TestTransferIdentity(t *testing.T) {
	t.Parallel()
	from, to := writeFiles(t, map[string]string{"f": "from somebody else"}), t.TempDir()
	s := startJSON(t, strings.NewReader(""), "send", from+"/f", "--server", startRdvServer(t))
	text := ticketOf(s)
	forged, err := ticket.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	_, id := newKeyFile(t)
	if forged.Peer, err = peer.Decode(id); err != nil {
		t.Fatal(err)
	}
	want(t, exitIdentity, "recv", forged.String(), "--out", to)
	if names, err := os.ReadDir(to); err != nil || len(names) > 0 {
		t.Errorf("left %v, %v", names, err)
	}
	if out := want(t, exitOK, "recv", text, "--out", to); out != filepath.Join(to, "f")+"\n" {
		t.Errorf("stdout %q", out)
	}
	s.wait(exitOK)
}

// TestTransferAllow: a ticket is not enough where --allow names others.
func TestTransferAllow(t *testing.T) {
	t.Parallel()
	friend, friendID := newKeyFile(t)
	from, to := writeFiles(t, map[string]string{"f": "secret"}), t.TempDir()
	s := startJSON(t, strings.NewReader(""), "send", from+"/f", "--server", startRdvServer(t), "--allow", friendID)
	text := ticketOf(s)
	want(t, exitRefused, "recv", text, "--out", to)
	want(t, exitOK, "recv", text, "--out", to, "--key", friend)
	s.wait(exitOK)
}

func TestTransferUsage(t *testing.T) {
	t.Parallel()
	url := startRdvServer(t)
	dir := writeFiles(t, map[string]string{"a/x": "1", "b/x": "2"})
	for name, c := range map[string]struct {
		code int
		want string // on stderr
		args []string
	}{
		"nothing to send":    {exitUsage, "takes one PATH", []string{"send", "--server", url}},
		"no such file":       {exitUsage, "none", []string{"send", dir + "/none", "--server", url}},
		"the same twice":     {exitUsage, "twice", []string{"send", dir + "/a/x", dir + "/b/x", "--server", url}},
		"no way":             {exitUsage, "--server", []string{"send", dir + "/a"}},
		"to nobody":          {exitUsage, "WHO is", []string{"send", dir + "/a", "--to", "?", "--server", url}},
		"nobody to ask":      {exitUsage, "--yes", []string{"recv", "--server", url}},
		"typo":               {exitUsage, "letter", []string{"recv", "muster1aaaa"}},
		"newer":              {exitVersion, "update", []string{"recv", "muster2aaaa"}},
		"a name":             {exitUsage, "--to lab/nas", []string{"recv", "lab/nas", "--point", somePoint}},
		"two tickets":        {exitUsage, "one TICKET or none", []string{"recv", "a", "b"}},
		"nobody calls":       {exitTimeout, "", []string{"send", dir + "/a", "--server", url, "--timeout", "100ms"}},
		"unreachable":        {exitUnreachable, "", []string{"send", dir + "/a", "--server", "http://127.0.0.1:1", "--timeout", "10s"}},
		"nobody with it":     {exitTimeout, "still running", []string{"recv", someTicket(t, url), "--timeout", "100ms"}},
		"no permission":      {exitLocal, "", []string{"recv", "--yes", "--out", "/dev/null/x", "--server", url}},
		"both would receive": {exitUsage, "'muster send'", []string{"recv", "--yes", "--server", url}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "no permission" || name == "both would receive" {
				meetRecv(t, c.code, c.want, c.args, dir)
				return
			}
			code, _, errs := musterRun(t.Context(), c.args...)
			if code != c.code || !strings.Contains(errs, c.want) {
				t.Errorf("exit %d, want %d: %s", code, c.code, errs)
			}
		})
	}
}

// meetRecv starts a 'muster recv' that waits, and has it meet a sender, or a
// second one that receives.
func meetRecv(t *testing.T, code int, text string, args []string, dir string) {
	t.Helper()
	r := startJSON(t, strings.NewReader(""), args...)
	whom := ticketOf(r)
	if code == exitLocal {
		s := startJSON(t, strings.NewReader(""), "send", dir+"/a", "--to", whom)
		r.wait(code)
		s.wait(exitOther)
		return
	}
	got, _, errs := musterRun(t.Context(), "recv", whom, "--out", t.TempDir())
	if got != code || !strings.Contains(errs, text) {
		t.Errorf("exit %d, want %d: %s", got, code, errs)
	}
	r.want("broken") // and waits for a sender
	r.stop()
	r.wait(exitSignal + 2)
}

// someTicket is a good ticket of nobody.
func someTicket(t *testing.T, url string) string {
	t.Helper()
	_, id := newKeyFile(t)
	p, err := peer.Decode(id)
	if err != nil {
		t.Fatal(err)
	}
	text, err := ticket.Ticket{Peer: p, Servers: []string{url}, Token: strings.Repeat("a", ticket.MinToken)}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}
