//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/rdv"
)

// A testDaemon is 'muster serve' in this process.
type testDaemon struct {
	t     *testing.T
	dir   string
	addr  string
	ready readyEvent

	mu     sync.Mutex
	stderr bytes.Buffer
	lines  chan string
	stop   func() int
}

type readyEvent struct {
	Event, Peer, ENR, Admin string
	RDV                     []string `json:"rdv"`
	Addrs, Open, Closed     []string
	Try                     []string
}

// Write takes what the daemon says on stderr, and passes lines on.
func (d *testDaemon) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stderr.Write(b)
	for line := range strings.Lines(string(b)) {
		select {
		case d.lines <- line:
		default:
		}
	}
	return len(b), nil
}

func (d *testDaemon) said() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stderr.String()
}

// waitFor returns the first line with text in it.
func (d *testDaemon) waitFor(text string) string {
	d.t.Helper()
	for {
		select {
		case line := <-d.lines:
			if strings.Contains(line, text) {
				return line
			}
		case <-d.t.Context().Done():
			d.t.Fatalf("never said %q: %s", text, d.said())
		}
	}
}

// startDaemon runs a point on loopback, with a data directory of its own,
// until the test ends.
func startDaemon(t *testing.T, args ...string) *testDaemon {
	t.Helper()
	d := &testDaemon{t: t, dir: filepath.Join(t.TempDir(), "data"), lines: make(chan string, 1000)}
	args = append([]string{
		"serve", "--json", "--data-dir", d.dir, "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0",
		"--discv5-listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain", "5s",
	}, args...)
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, args, strings.NewReader(""), w, d)
		_ = w.Close()
	}()
	d.stop = sync.OnceValue(func() int { cancel(); return <-code })
	t.Cleanup(func() {
		if got := d.stop(); got != exitOK {
			t.Errorf("exit %d: %s", got, d.said())
		}
	})
	b := make([]byte, 4096)
	n, err := r.Read(b)
	if err != nil {
		t.Fatalf("%v: exit %d: %s", err, <-code, d.said())
	}
	d.addr = strings.TrimSpace(string(b[:n]))
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if err := json.Unmarshal([]byte(d.waitFor(`"event":"ready"`)), &d.ready); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *testDaemon) get(path string) (int, string) {
	d.t.Helper()
	resp, err := http.Get(strings.TrimSuffix(d.ready.Admin, "/") + path)
	if err != nil {
		d.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestServe: a point that is registered at, used with a token, and stopped.
func TestServe(t *testing.T) {
	d := startDaemon(t)
	if !strings.HasPrefix(d.addr, "/ip4/127.0.0.1/tcp/") || !strings.HasSuffix(d.addr, "/p2p/"+d.ready.Peer) {
		t.Errorf("first line %q", d.addr)
	}
	if len(d.ready.RDV) != 1 || !strings.HasPrefix(d.ready.ENR, "enr:") || len(d.ready.Open) == 0 || len(d.ready.Closed) == 0 {
		t.Errorf("said %+v", d.ready)
	}
	if code, out, errs := musterRun(t.Context(), "rendezvous", "register", "lab", "--point", d.addr, "--addr", "/ip4/192.0.2.7/tcp/1"); code != 0 {
		t.Errorf("register: %d %s %s", code, out, errs)
	}
	if code, out, errs := musterRun(t.Context(), "rendezvous", "discover", "lab", "--point", d.addr); code != 0 || !strings.Contains(out, "192.0.2.7") {
		t.Errorf("discover: %d %s %s", code, out, errs)
	}
	if _, resp, err := new(rdv.Client).Dial(t.Context(), d.ready.RDV[0], "room", nil); err == nil || resp == nil || resp.StatusCode != 401 {
		t.Errorf("without a token: %v, %v", resp, err)
	}
	if code, body := d.get("/readyz"); code != 200 {
		t.Errorf("not ready: %s", body)
	}
	if _, body := d.get("/metrics"); !strings.Contains(body, "muster_rendezvous_") || !strings.Contains(body, "muster_rdv_") ||
		!strings.Contains(body, "muster_access_") || !strings.Contains(body, "muster_reach_") {
		t.Errorf("metrics: %s", body)
	}
	if d.stop() != exitOK {
		t.Error(d.said())
	}
}

// TestServeMetricsAreFew: "<= 400 series".
func TestServeMetricsAreFew(t *testing.T) {
	d := startDaemon(t, "--waku")
	_, body := d.get("/metrics")
	series := 0
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, "#") {
			series++
		}
	}
	if series > 400 {
		t.Errorf("%d series", series)
	}
	t.Logf("%d series", series)
}

// TestServeTakesNewTokens: a token that is issued beside a point that runs is
// taken, and one that is revoked is not.
func TestServeTakesNewTokens(t *testing.T) {
	d := startDaemon(t)
	code, text, errs := musterRun(t.Context(), "token", "issue", "--data-dir", d.dir, "--scope", "relay")
	if code != 0 {
		t.Fatal(errs)
	}
	status := func(method string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, d.ready.RDV[0]+"/room", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(text))
		req.Header.Set("Connection", "upgrade")
		req.Header.Set("Upgrade", "rdv/1")
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		resp, err := http.DefaultTransport.RoundTrip(req.WithContext(ctx))
		if err != nil {
			return 0 // it waits for its peer
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	// The point looks at the directory once a second; it has not looked yet.
	if got := status("ACCEPT"); got != 0 {
		t.Errorf("status %d with a token", got)
	}
	id := strings.Split(text, ".")[1]
	if code, _, errs := musterRun(t.Context(), "token", "revoke", id, "--data-dir", d.dir); code != 0 {
		t.Fatal(errs)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil { // sooner than in a second
		t.Fatal(err)
	}
	d.waitFor("reloaded")
	if got := status("ACCEPT"); got != http.StatusUnauthorized {
		t.Errorf("status %d after it was revoked", got)
	}
}

// TestServeReloads: SIGHUP applies policy and level, says what needs a restart,
// and changes nothing if the file is no good.
func TestServeReloads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "muster.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hup := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	write("[relay]\naccess = \"token\"\n")
	d := startDaemon(t, "--config", file)
	relay := func() string {
		_, body := d.get("/api/status")
		var s struct{ Relay struct{ Access string } }
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			t.Fatal(err)
		}
		return s.Relay.Access
	}
	write("[relay]\naccess = \"closed\"\n[limits]\nconnections = 7\n[log]\nlevel = \"debug\"\n")
	hup()
	d.waitFor("limits.connections")
	d.waitFor(`"event":"reloaded"`)
	if got := relay(); got != "closed" {
		t.Errorf("access %s", got)
	}
	if _, body := d.get("/api/loglevel"); body != "debug\n" {
		t.Errorf("level %s", body)
	}
	write("[relay]\naccess = \"opne\"\n")
	hup()
	if line := d.waitFor("configuration not reloaded"); !strings.Contains(line, "relay.access (muster.toml:2)") {
		t.Errorf("said %s", line)
	}
	if got := relay(); got != "closed" {
		t.Errorf("access %s", got)
	}
}

// TestServeReloadsLimits: lobby, pairs, registry and the operator's service
// change without a restart, and nobody is sent away for it.
func TestServeReloadsLimits(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "muster.toml")
	d := (*testDaemon)(nil)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if d == nil {
			return
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if line := d.waitFor("reloaded"); !strings.Contains(line, `"event":"reloaded"`) {
			t.Fatal(line)
		}
		if strings.Contains(d.said(), "need a restart") {
			t.Error(d.said())
		}
	}
	const open = "[relay]\naccess = \"open\"\ni_know_this_is_an_open_relay = true\n"
	write(open)
	d = startDaemon(t, "--config", file)
	dial := func(token string) (status int) {
		c := &rdv.Client{Timeout: 200 * time.Millisecond}
		_, resp, _ := c.Dial(t.Context(), d.ready.RDV[0], token, nil)
		if resp == nil {
			return 0 // let in, and waiting
		}
		return resp.StatusCode
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waits := make(chan error, 1)
	go func() { _, _, err := new(rdv.Client).Dial(ctx, d.ready.RDV[0], "waits", nil); waits <- err }()
	for waiting := 0; waiting != 1; {
		_, body := d.get("/api/status")
		var s struct{ Relay struct{ Waiting int } }
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			t.Fatal(err)
		}
		waiting = s.Relay.Waiting
	}
	if got := dial("a"); got != 0 {
		t.Errorf("before: %d", got)
	}
	write(open + "max_waiting = 1\n")
	if got := dial("a"); got != http.StatusServiceUnavailable {
		t.Errorf("max_waiting = 1: %d", got)
	}
	write(open + "max_waiting_per_source = 1\n")
	if got := dial("a"); got != http.StatusTooManyRequests {
		t.Errorf("max_waiting_per_source = 1: %d", got)
	}
	select {
	case err := <-waits:
		t.Errorf("who waited was sent away: %v", err)
	default:
	}
	write(open + "lobby_timeout = \"1s\"\n")
	if err := <-waits; err == nil || !strings.Contains(err.Error(), "408") {
		t.Errorf("lobby_timeout = 1s: %v", err)
	}

	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer hook.Close()
	write(open + "[access]\nhook_url = \"" + hook.URL + "\"\n")
	if got := dial("a"); got != http.StatusForbidden {
		t.Errorf("with a service that says no: %d", got)
	}
	write(open + "[rendezvous]\nmax_per_peer = 1\n")
	if got := dial("a"); got != 0 {
		t.Errorf("without it: %d", got)
	}
	key := filepath.Join(dir, "peer.key")
	register := func(ns string) int {
		code, _, _ := musterRun(t.Context(), "rendezvous", "register", ns, "--key", key, "--point", d.addr, "--addr", "/ip4/192.0.2.7/tcp/1")
		return code
	}
	if first, second := register("lab"), register("other"); first != exitOK || second != exitRefused {
		t.Errorf("max_per_peer = 1: exits %d and %d", first, second)
	}
}

// TestServePortInUse: exit 9, and the flag to change.
func TestServePortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for flag, value := range map[string]string{
		"--listen": "/ip4/127.0.0.1/tcp/" + port, "--http": ln.Addr().String(), "--admin": ln.Addr().String(),
		"--discv5-listen": udp.LocalAddr().String(),
	} {
		args := map[string]string{
			"--listen": "/ip4/127.0.0.1/tcp/0", "--http": "127.0.0.1:0", "--admin": "", "--discv5-listen": "127.0.0.1:0",
			"--data-dir": t.TempDir(), "--store": "memory",
		}
		args[flag] = value
		line := []string{"serve"}
		for f, v := range args {
			line = append(line, f, v)
		}
		code, out, errs := musterRun(t.Context(), line...)
		if code != exitLocal || !strings.Contains(errs, flag) || out != "" {
			t.Errorf("%s: exit %d, stdout %q, stderr %s", flag, code, out, errs)
		}
	}
}

// TestServePortIsOurs: a second point does not share the port of the first.
func TestServePortIsOurs(t *testing.T) {
	d := startDaemon(t)
	info, err := peer.AddrInfoFromString(d.addr)
	if err != nil {
		t.Fatal(err)
	}
	code, _, errs := musterRun(t.Context(), "serve", "--listen", info.Addrs[0].String(), "--http", "", "--admin", "", "--discv5=false",
		"--data-dir", t.TempDir(), "--store", "memory")
	if code != exitLocal || !strings.Contains(errs, "--listen") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// TestServeKeepsWhatItHas: a point that is started again is the same, and has
// the registrations, tokens and counts of before.
func TestServeKeepsWhatItHas(t *testing.T) {
	d := startDaemon(t)
	if code, _, errs := musterRun(t.Context(), "rendezvous", "register", "lab", "--point", d.addr, "--addr", "/ip4/192.0.2.7/tcp/1"); code != 0 {
		t.Fatal(errs)
	}
	d.stop()
	again := startDaemon(t, "--data-dir", d.dir)
	if again.ready.Peer != d.ready.Peer {
		t.Errorf("peer %s became %s", d.ready.Peer, again.ready.Peer)
	}
	if code, out, errs := musterRun(t.Context(), "rendezvous", "discover", "lab", "--point", again.addr); code != 0 || !strings.Contains(out, "192.0.2.7") {
		t.Errorf("discover: %d %s %s", code, out, errs)
	}
}

// TestServeKeyModes: keys and directories that others can use are refused with
// exit 2, and left as they are.
func TestServeKeyModes(t *testing.T) {
	if os.PathSeparator != '/' {
		t.Skip("modes are of unix")
	}
	good := filepath.Join(t.TempDir(), "good.key")
	if _, err := createKey(good); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(dir, key string) error{
		"readable by group":  func(_, key string) error { return errors.Join(os.WriteFile(key, b, 0o600), os.Chmod(key, 0o640)) }, // whatever the umask
		"readable by others": func(_, key string) error { return errors.Join(os.WriteFile(key, b, 0o600), os.Chmod(key, 0o604)) },
		"symbolic link":      func(_, key string) error { return os.Symlink(good, key) },
		"directory":          func(_, key string) error { return os.Mkdir(key, 0o700) },
		"damaged":            func(_, key string) error { return os.WriteFile(key, b[1:], 0o600) },
		"empty":              func(_, key string) error { return os.WriteFile(key, nil, 0o600) },
		"dir of others":      func(dir, _ string) error { return os.Chmod(dir, 0o777) },
		"damaged discv5 key": func(dir, _ string) error { return os.WriteFile(filepath.Join(dir, "discv5.key"), b[1:], 0o600) },
		"tokens are a file":  func(dir, _ string) error { return os.WriteFile(filepath.Join(dir, "tokens"), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := spoil(dir, filepath.Join(dir, "node.key")); err != nil {
				t.Fatal(err)
			}
			code, out, errs := musterRun(t.Context(), "serve", "--data-dir", dir, "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0",
				"--admin", "", "--discv5-listen", "127.0.0.1:0", "--store", "memory")
			if code != exitUsage || out != "" {
				t.Errorf("exit %d, stdout %q, stderr %s", code, out, errs)
			}
		})
	}
}

// TestSecretsStaySecret runs 50 secrets through everything that prints: logs,
// metrics, the status page and 'config show'.
func TestSecretsStaySecret(t *testing.T) {
	var secrets []string
	secret := func() string {
		s := "sEcReT" + strings.ToLower(access.Short(time.Duration(len(secrets)).String()+t.TempDir()))
		secrets = append(secrets, s)
		return s
	}
	adminToken := strings.Repeat(secret(), 3)
	hook := "http://user:" + secret() + "@127.0.0.1:1/" + secret() + "?key=" + secret()
	t.Setenv("MUSTER_ADMIN_TOKEN", adminToken)
	t.Setenv("MUSTER_ACCESS_HOOK_URL", hook)
	d := startDaemon(t, "--log-level", "debug")
	for range 20 {
		h := http.Header{"Authorization": {"Bearer " + secret()}}
		_, _, _ = new(rdv.Client).Dial(t.Context(), d.ready.RDV[0], secret(), h)
	}
	for range 3 {
		_, _, _ = new(rdv.Client).Accept(t.Context(), d.ready.RDV[0], secret(), http.Header{"Authorization": {"Bearer mt1.aaaaaaaa." + secret()}})
	}
	_, shown, _ := musterRun(t.Context(), "config", "show", "--store", "postgres://u:"+secret()+"@db/"+secret())
	_, shownJSON, _ := musterRun(t.Context(), "config", "show", "--json")
	_, _, refused := musterRun(t.Context(), "config", "check", "--store", "mysql://u:"+secret()+"@db", "--access-hook-url", "ftp://"+secret())
	_, _, unreachable := musterRun(t.Context(), "serve", "--data-dir", t.TempDir(), "--admin", "", "--http", "", "--discv5=false",
		"--listen", "/ip4/127.0.0.1/tcp/0", "--store", "postgres://u:"+secret()+"@127.0.0.1:1/db")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.ready.Admin+"metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	metrics, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != 200 || len(secrets) < 50 {
		t.Errorf("metrics: %d; %d secrets", resp.StatusCode, len(secrets))
	}
	d.stop()
	said := strings.ToLower(strings.Join([]string{d.said(), shown, shownJSON, refused, unreachable, string(metrics)}, "\n"))
	for _, s := range secrets {
		if i := strings.Index(said, strings.ToLower(s)); i >= 0 {
			t.Errorf("%s is told: …%s…", s, said[max(0, i-200):min(len(said), i+50)])
		}
	}
}

// TestNotify: the service manager is told, and gets signs of life.
func TestNotify(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Skip(err)
	}
	defer func() { _ = conn.Close() }()
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_USEC", "20000")
	states := make(chan string, 100)
	go func() {
		b := make([]byte, 1024)
		for {
			n, err := conn.Read(b)
			if err != nil {
				close(states)
				return
			}
			states <- string(b[:n])
		}
	}()
	want := func(text string) {
		t.Helper()
		for s := range states {
			if strings.HasPrefix(s, text) {
				return
			}
		}
		t.Fatalf("never told %s", text)
	}
	d := startDaemon(t)
	want("READY=1")
	want("WATCHDOG=1")
	d.stop()
	want("STOPPING=1")
}

func TestLogIsLimited(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := newLogger(&out, "text", &slog.LevelVar{})
		for range 1000 {
			d.Info("the same")
			d.With("peer", "x").Warn("another")
		}
		if n := strings.Count(out.String(), "\n"); n != 2*logBurst {
			t.Errorf("%d lines", n)
		}
		time.Sleep(logWindow)
		d.Info("the same")
		if !strings.Contains(out.String(), "dropped=980") {
			t.Errorf("not told how many were left out: %s", out.String())
		}
	})
}

// TestLibp2pIsQuiet: also the loggers that go-libp2p derives from ours.
func TestLibp2pIsQuiet(t *testing.T) {
	var out bytes.Buffer
	level := &slog.LevelVar{}
	level.Set(slog.LevelDebug)
	l := slog.New(quiet{newLogger(&out, "text", level).Handler()})
	l.With("logger", "swarm2").WithGroup("g").Warn("a stranger")
	if l.Error("fault"); strings.Contains(out.String(), "stranger") || !strings.Contains(out.String(), "fault") {
		t.Errorf("written: %s", out.String())
	}
}

func TestShareFiles(t *testing.T) {
	for _, c := range []struct{ files, wanted, conns, relayed int }{
		{0, 4500, 4500, 0}, {256, 4500, 96, 96}, {1024, 100, 100, 860}, {20000, 4500, 4500, 15436}, {70, 4500, 16, 16},
	} {
		if conns, relayed := shareFiles(c.files, c.wanted); conns != c.conns || relayed != c.relayed {
			t.Errorf("%d files: %d and %d, want %d and %d", c.files, conns, relayed, c.conns, c.relayed)
		}
	}
}

// TestServeTellsWhatWorks types the three commands that the daemon tells: a
// machine is called by its name, with a token, and answers.
func TestServeTellsWhatWorks(t *testing.T) {
	d := startDaemon(t)
	code, token, errs := musterRun(t.Context(), "token", "issue", "--data-dir", d.dir)
	if code != 0 {
		t.Fatal(errs)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	ssh, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ssh.Close() }()
	go func() {
		for {
			c, err := ssh.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "SSH-2.0-test\r\n")
			_ = c.Close()
		}
	}()
	command := func(i int) []string {
		line := strings.NewReplacer("127.0.0.1:22 ", ssh.Addr().String()+" ", "127.0.0.1:2222", "127.0.0.1:0", "--token-file token", "--token-file "+file).
			Replace(d.ready.Try[i] + " ")
		return strings.Fields(line)[1:]
	}
	up := startJSON(t, strings.NewReader(""), append(command(0), "--key", filepath.Join(t.TempDir(), "key"))...)
	for range 3 { // lab, lab/nas, and reachable, in any order
		up.want("registered", "reachable")
	}
	if code, out, errs := musterRun(t.Context(), command(1)...); code != 0 || !strings.Contains(out, "12D3KooW") {
		t.Errorf("find: %d %s %s", code, out, errs)
	}
	lines, _ := startVerb(t, command(2)...)
	conn, err := net.Dial("tcp", nextLine(t, lines))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil || string(b) != "SSH-2.0-test\r\n" {
		t.Errorf("answered %q, %v", b, err)
	}
}

// TestServeDrains: "503 for new, <= 30 s for old".
func TestServeDrains(t *testing.T) {
	d := startDaemon(t, "--relay-access", "open", "--i-know-this-is-an-open-relay", "--drain", "30s")
	d.waitFor("open relay") // it is said at every start
	c := &rdv.Client{AddrSpaces: rdv.NoSpaces, Picker: rdv.PickFirst()}
	accepted := make(chan *rdv.Conn, 1)
	go func() {
		conn, _, _ := c.Accept(t.Context(), d.ready.RDV[0], "room", nil)
		accepted <- conn
	}()
	dialed, _, err := c.Dial(t.Context(), d.ready.RDV[0], "room", nil)
	if err != nil {
		t.Fatal(err)
	}
	conn := <-accepted
	ended := make(chan int, 1)
	go func() { ended <- d.stop() }()
	d.waitFor("draining")
	if _, resp, err := c.Dial(t.Context(), d.ready.RDV[0], "other", nil); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a newcomer: %v, %v", resp, err)
	}
	if _, err := io.WriteString(dialed, "still here"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len("still here"))); err != nil {
		t.Fatal(err)
	}
	_, _ = dialed.Close(), conn.Close()
	if code := <-ended; code != exitOK {
		t.Errorf("exit %d: %s", code, d.said())
	}
}

// TestServeAsksHook: the operator's service decides on tokens of its own.
func TestServeAsksHook(t *testing.T) {
	sum := sha256.Sum256([]byte("theirs"))
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Op        string `json:"op"`
			Remote    string `json:"remote"`
			TokenHash string `json:"token_hash"`
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Op != "relay" || q.Remote != "127.0.0.1" || q.TokenHash != hex.EncodeToString(sum[:]) {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer hook.Close()
	d := startDaemon(t, "--access-hook-url", hook.URL)
	c := &rdv.Client{AddrSpaces: rdv.NoSpaces, Picker: rdv.PickFirst()}
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	status := func(token string) int {
		_, resp, _ := c.Dial(t.Context(), d.ready.RDV[0], "room", bearer(token))
		if resp == nil {
			return 0
		}
		return resp.StatusCode
	}
	letIn := func() error { // both ends of a pair
		accepted := make(chan *rdv.Conn, 1)
		go func() {
			conn, _, _ := c.Accept(t.Context(), d.ready.RDV[0], "room", bearer("theirs"))
			accepted <- conn
		}()
		conn, _, err := c.Dial(t.Context(), d.ready.RDV[0], "room", bearer("theirs"))
		if err == nil {
			_, _ = conn.Close(), (<-accepted).Close()
		}
		return err
	}
	if err := letIn(); err != nil {
		t.Fatalf("a token of theirs: %v", err)
	}
	if got := status("another"); got != http.StatusForbidden {
		t.Errorf("a token that they do not know: %d", got)
	}
	hook.Close()
	// With the service down nobody is let in, and nobody is a guesser for it.
	for range rdv.DefaultMaxRefusals + 5 {
		if got := status("third"); got != http.StatusServiceUnavailable {
			t.Fatalf("with the service down: %d", got)
		}
	}
	if err := letIn(); err != nil {
		t.Errorf("a token that is remembered: %v", err)
	}
	code, _, errs := musterRun(t.Context(), "rendezvous", "register", "lab", "--point", d.addr, "--addr", "/ip4/192.0.2.7/tcp/1")
	if code == exitOK || !strings.Contains(errs, "UNAVAILABLE") {
		t.Errorf("register with the service down: exit %d %s", code, errs)
	}
	t.Setenv(envToken, "third")
	code, _, errs = musterRun(t.Context(), "listen", "--point", d.addr)
	if code != exitUnreachable || !strings.Contains(errs, "cannot be decided") {
		t.Errorf("listen with the service down: exit %d %s", code, errs)
	}
	if _, body := d.get("/metrics"); !strings.Contains(body, `muster_access_decisions_total{op="relay",result="unavailable"}`) {
		t.Error("it is not counted")
	}
	if code, body := d.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "access") {
		t.Errorf("ready: %d %s", code, body)
	}
}

// TestMintSecret: where no store keeps the secret of meetings, a file does.
func TestMintSecret(t *testing.T) {
	dir := t.TempDir()
	plan := func(store string) *servePlan {
		return &servePlan{configuration: &configuration{serveConfig: serveConfig{dataDir: dir, store: store, rendezvous: true}}}
	}
	if secret, err := mintSecret(plan("pebble:x")); err != nil || secret != nil {
		t.Errorf("with a store: %x, %v", secret, err)
	}
	first, err := mintSecret(plan("memory"))
	if err != nil || len(first) != access.MinSecret {
		t.Fatalf("%x, %v", first, err)
	}
	if again, err := mintSecret(plan("memory")); err != nil || !bytes.Equal(first, again) {
		t.Errorf("another secret after a restart: %v", err)
	}
	if err := os.Chmod(filepath.Join(dir, mintKey), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := mintSecret(plan("memory")); err == nil {
		t.Error("a secret that others can read was taken")
	}
}

// TestServeSecondSignalCuts: who is stopped twice does not wait for pairs.
func TestServeSecondSignalCuts(t *testing.T) {
	d := startDaemon(t, "--relay-access", "open", "--i-know-this-is-an-open-relay", "--drain", "10m")
	c := &rdv.Client{AddrSpaces: rdv.NoSpaces, Picker: rdv.PickFirst()}
	accepted := make(chan *rdv.Conn, 1)
	go func() {
		conn, _, _ := c.Accept(t.Context(), d.ready.RDV[0], "room", nil)
		accepted <- conn
	}()
	dialed, _, err := c.Dial(t.Context(), d.ready.RDV[0], "room", nil)
	if err != nil {
		t.Fatal(err)
	}
	conn := <-accepted
	defer func() { _, _ = dialed.Close(), conn.Close() }()
	ended := make(chan int, 1)
	go func() { ended <- d.stop() }()
	d.waitFor("draining")
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != exitOK {
		t.Errorf("exit %d: %s", code, d.said())
	}
	d.waitFor(`"event":"cut"`)
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the pair goes on")
	}
}

// TestDataDirFlag: the hint of a daemon that systemd runs names its directory:
// who types it has no $STATE_DIRECTORY.
func TestDataDirFlag(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_STATE_HOME", home)
	for state, want := range map[string]string{"": "", "/var/lib/muster": "--data-dir /var/lib/muster "} {
		t.Setenv("STATE_DIRECTORY", state)
		dir, err := stateDir()
		if err != nil {
			t.Fatal(err)
		}
		d := &daemon{plan: &servePlan{configuration: &configuration{serveConfig: serveConfig{dataDir: dir}}}}
		if got := dataDirFlag(d); got != want {
			t.Errorf("%q: %q, want %q", state, got, want)
		}
	}
}
