package admin_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster/admin"
	"github.com/muster-p2p/muster/internal/bubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "0123456789abcdefghijkl"

func newServer(t *testing.T, cfg admin.Config) *admin.Server {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	s, err := admin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func start(t *testing.T, cfg admin.Config) *admin.Server {
	t.Helper()
	s := newServer(t, cfg)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// do sends a request to the server's handler, as if it had come from the
// address in Host.
func do(s *admin.Server, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:7837"
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func TestListenRules(t *testing.T) {
	tests := []struct {
		listen string
		token  string
		want   string // part of the error; empty for none
	}{
		{"", "", ""},
		{"127.0.0.1:0", "", ""},
		{"127.9.9.9:1", "", ""},
		{"[::1]:0", "", ""},
		{"[::ffff:127.0.0.1]:0", "", ""},
		{"localhost:0", "", ""},
		{"unix:/run/muster/admin.sock", "", ""},
		{":7837", "", "token and TLS"},
		{"0.0.0.0:7837", "", "token and TLS"},
		{"[::]:7837", token, "token and TLS"},
		{"192.0.2.1:7837", token, "token and TLS"},
		{"localhost.example:80", "", "token and TLS"},
		{"127.0.0.1.example:80", "", "token and TLS"},
		{"127.0.0.1", "", "HOST:PORT"},
		{"unix:", "", "path"},
		{"unix:@muster", "", "abstract"},
		{"127.0.0.1:0", "short", "at least 22"},
	}
	for _, tt := range tests {
		_, err := admin.New(admin.Config{Listen: tt.listen, Token: tt.token})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q: %v", tt.listen, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q: got %v, want an error with %q", tt.listen, err, tt.want)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes of unix sockets are POSIX")
	}
	path := filepath.Join(t.TempDir(), "run", "admin.sock")
	s := start(t, admin.Config{Listen: "unix:" + path})
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode %v, want only the owner", info.Mode())
	}
	if got := s.URL(); got != "unix:"+path {
		t.Errorf("URL %q", got)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".a*")); left != nil {
		t.Errorf("left %q", left)
	}
	if _, err := (&admin.Client{Addr: "unix:" + path}).Status(t.Context()); err != nil {
		t.Error(err)
	}
	second := newServer(t, admin.Config{Listen: "unix:" + path})
	if err := second.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a socket in use was taken: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Skip(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, admin.Config{Listen: "unix:" + path})

	file := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, admin.Config{Listen: "unix:" + file})
	if err := s.Start(t.Context()); err == nil {
		t.Error("a file was taken for a stale socket")
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestStartOnce(t *testing.T) {
	s := start(t, admin.Config{})
	if err := s.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
	never := newServer(t, admin.Config{})
	if err := errors.Join(never.Close(), never.Close()); err != nil {
		t.Error(err)
	}
	if err := never.Start(t.Context()); err == nil {
		t.Error("started after Close")
	}
}

func TestReady(t *testing.T) {
	var failing error
	cfg := admin.Config{Checks: map[string]func(context.Context) error{
		"store": func(context.Context) error { return failing },
		"relay": func(context.Context) error { return nil },
	}}
	s := newServer(t, cfg)
	if w := do(s, "GET", "/readyz", ""); w.Code != 200 || w.Body.String() != "ok\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	failing = errors.New("disk full")
	if w := do(s, "GET", "/readyz", ""); w.Code != 503 || w.Body.String() != "not ready\nstore: disk full\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	w := do(s, "GET", "/readyz", "", "Accept", "application/json")
	want := `{"ready":false,"failing":{"store":"disk full"},"parts":["relay","store"]}` + "\n"
	if w.Code != 503 || w.Body.String() != want {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if w := do(s, "GET", "/livez", ""); w.Code != 200 {
		t.Errorf("livez %d", w.Code)
	}
	cfg.Token = token
	if w := do(newServer(t, cfg), "GET", "/readyz", ""); w.Code != 503 || w.Body.String() != "not ready\n" {
		t.Errorf("without the token: %d %q", w.Code, w.Body)
	}
}

// A part that panics is not ready, one that hangs is asked by one goroutine.
func TestReadyContains(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		var asked atomic.Int64
		s := newServer(t, admin.Config{Checks: map[string]func(context.Context) error{
			"broken": func(context.Context) error { panic("BUG") },
			"stuck":  func(context.Context) error { asked.Add(1); <-hang; return nil },
		}})
		if got := do(s, "GET", "/readyz", "").Body.String(); got != "not ready\nbroken: panic: BUG\nstuck: no answer: context deadline exceeded\n" {
			t.Errorf("%q", got)
		}
		if got := do(s, "GET", "/readyz", "").Body.String(); !strings.Contains(got, "stuck: no answer") {
			t.Errorf("%q", got)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		close(hang)
	})
}

// What the parts said is in the snapshot and in muster_ready.
func TestReadiness(t *testing.T) {
	reg := prometheus.NewRegistry()
	asked := make(chan bool, 1)
	s := start(t, admin.Config{Registerer: reg, Gatherer: reg, Checks: map[string]func(context.Context) error{
		"relay": func(context.Context) error { return nil },
		"store": func(context.Context) error {
			select {
			case asked <- true:
			default:
			}
			return errors.New("disk full")
		},
	}})
	<-asked
	s.WaitSeen()
	if got := do(s, "GET", "/metrics", "").Body.String(); !strings.Contains(got, `muster_ready{part="relay"} 1`) ||
		!strings.Contains(got, `muster_ready{part="store"} 0`) {
		t.Errorf("%s", got)
	}
	if got := do(s, "GET", "/api/status", "").Body.String(); !strings.Contains(got, `"readiness":{"ready":false,"failing":{"store":"disk full"}`) {
		t.Errorf("%s", got)
	}
}

// Who asks while another asks gets the same answer.
func TestReadyTogether(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		s := newServer(t, admin.Config{Checks: map[string]func(context.Context) error{
			"slow": func(context.Context) error { asked.Add(1); time.Sleep(time.Second); return nil },
		}})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if w := do(s, "GET", "/readyz", ""); w.Code != 200 {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			})
		}
		wg.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// Close ends a check that is under way.
func TestCloseEndsChecks(t *testing.T) {
	asked, ended := make(chan bool, 1), make(chan bool, 1)
	s := start(t, admin.Config{Checks: map[string]func(context.Context) error{
		"slow": func(ctx context.Context) error { asked <- true; <-ctx.Done(); ended <- true; return nil },
	}})
	<-asked
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-ended
}

// Where the name is proven by a certificate and the reader by a token, any name
// will do, unless names are given.
func TestGuardElsewhere(t *testing.T) {
	cfg := admin.Config{Listen: "0.0.0.0:7837", Token: token, TLS: &tls.Config{}}
	auth := []string{"Host", "point.example.org", "Authorization", "Bearer " + token}
	if w := do(newServer(t, cfg), "GET", "/api/status", "", auth...); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	cfg.Hosts = []string{"other.example.org"}
	if w := do(newServer(t, cfg), "GET", "/api/status", "", auth...); w.Code != 403 {
		t.Errorf("another name: %d", w.Code)
	}
	w := do(newServer(t, cfg), "GET", "/livez", "", "Host", "other.example.org")
	if w.Code != 200 || w.Header().Get("Connection") != "close" {
		t.Errorf("a stranger keeps a connection: %d %v", w.Code, w.Header())
	}
}

func TestGuard(t *testing.T) {
	s := newServer(t, admin.Config{Hosts: []string{"Point.example.org"}})
	tests := []struct {
		name   string
		want   int
		path   string
		header []string
	}{
		{"loopback", 200, "/api/status", nil},
		{"localhost through a forwarded port", 200, "/api/status", []string{"Host", "localhost:9999"}},
		{"localhost with a final dot", 200, "/api/status", []string{"Host", "LOCALHOST."}},
		{"IPv6", 200, "/api/status", []string{"Host", "[::1]:7837"}},
		{"configured name", 200, "/api/status", []string{"Host", "point.example.org"}},
		{"rebound name", 403, "/api/status", []string{"Host", "evil.test:7837"}},
		{"rebound name at livez", 403, "/livez", []string{"Host", "evil.test"}},
		{"no name", 403, "/api/status", []string{"Host", ""}},
		{"name like an address", 403, "/api/status", []string{"Host", "127.0.0.1.nip.test"}},
		{"decimal address", 403, "/api/status", []string{"Host", "2130706433"}},
		{"other machine's address", 403, "/api/status", []string{"Host", "192.0.2.1"}},
		{"own page", 200, "/api/status", []string{"Origin", "http://127.0.0.1:7837", "Sec-Fetch-Site", "same-origin"}},
		{"foreign origin", 403, "/api/status", []string{"Origin", "http://evil.test"}},
		{"opaque origin", 403, "/api/status", []string{"Origin", "null"}},
		{"other port's origin", 403, "/api/status", []string{"Origin", "http://127.0.0.1:80"}},
		{"cross-site subresource", 403, "/api/status", []string{"Sec-Fetch-Site", "cross-site"}},
		{"cross-site link to data", 403, "/api/status", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}},
		{"other port's page", 403, "/metrics", []string{"Sec-Fetch-Site", "same-site"}},
		{"typed address", 200, "/api/status", []string{"Sec-Fetch-Site", "none"}},
	}
	for _, tt := range tests {
		if w := do(s, "GET", tt.path, "", tt.header...); w.Code != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, w.Code, tt.want)
		}
	}
}

func TestHeaders(t *testing.T) {
	s := newServer(t, admin.Config{})
	for _, path := range []string{"/api/status", "/metrics", "/livez", "/nothing"} {
		h := do(s, "GET", path, "").Header()
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestToken(t *testing.T) {
	s := newServer(t, admin.Config{Token: token})
	basic := func(pass string) string {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth("me", pass)
		return r.Header.Get("Authorization")
	}
	for auth, want := range map[string]int{
		"": 401, "Bearer": 401, "Bearer ": 401, "Bearer " + token: 200, "Bearer " + token + "x": 401,
		"Basic " + token: 401, basic(token): 200, basic(""): 401,
	} {
		if w := do(s, "GET", "/api/status", "", "Authorization", auth); w.Code != want {
			t.Errorf("%q: got %d, want %d", auth, w.Code, want)
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/api/events", "/api/peers", "/api/loglevel", "/"} {
		if w := do(s, "GET", path, ""); w.Code != 401 {
			t.Errorf("%s without the token: %d", path, w.Code)
		}
	}
}

// Guesses are answered up to a rate, and do not lock out who has the token.
func TestTokenIsNotGuessed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) { // no time passes but what the test waits
		s := newServer(t, admin.Config{Token: token})
		guesses := func() (answered int) {
			for range 64 {
				switch code := do(s, "GET", "/api/status", "", "Authorization", "Bearer guess").Code; code {
				case 401:
					answered++
				case 429:
				default:
					t.Errorf("a guess: %d", code)
				}
			}
			return answered
		}
		if got := guesses(); got != 20 {
			t.Errorf("%d of 64 guesses at once were answered, want 20", got)
		}
		if w := do(s, "GET", "/api/status", "", "Authorization", "Bearer "+token); w.Code != 200 {
			t.Errorf("guesses of others locked the operator out: %d", w.Code)
		}
		time.Sleep(time.Second)
		if got := guesses(); got != 5 {
			t.Errorf("%d of 64 guesses were answered a second later, want 5", got)
		}
	})
}

func TestLogLevel(t *testing.T) {
	var level slog.LevelVar
	s := newServer(t, admin.Config{LogLevel: &level})
	if w := do(s, "PUT", "/api/loglevel", "debug\n"); w.Code != 200 || w.Body.String() != "debug\n" || level.Level() != slog.LevelDebug {
		t.Errorf("%d %q %v", w.Code, w.Body, level.Level())
	}
	for _, body := range []string{"", "loud", strings.Repeat("a", 1<<20)} {
		if w := do(s, "PUT", "/api/loglevel", body); w.Code != 400 {
			t.Errorf("%.8q: %d", body, w.Code)
		}
	}
	if w := do(s, "POST", "/api/loglevel", "info"); w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
	if w := do(newServer(t, admin.Config{}), "PUT", "/api/loglevel", "info"); w.Code != 404 {
		t.Errorf("no level: %d", w.Code)
	}
}

func TestStatus(t *testing.T) {
	limits := []admin.Limit{{Part: "rdv", Limit: "lobby"}, {Part: "rendezvous", Limit: "rate", Count: 3}}
	s := newServer(t, admin.Config{Version: "v1.2.3", Snapshot: func() admin.Snapshot {
		return admin.Snapshot{
			Node:   admin.Node{Peer: "12D3", Started: time.Now().Add(-time.Hour)},
			Links:  make([]admin.Link, admin.MaxRows+1),
			Limits: append([]admin.Limit(nil), limits...),
		}
	}})
	w := do(s, "GET", "/api/status", "")
	var got admin.Snapshot
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Node.Peer != "12D3" || got.Node.Version != "v1.2.3" || got.Node.Uptime < 3600 || got.Node.Goroutines == 0 ||
		got.Node.HeapBytes == 0 || got.Node.Memory < got.Node.HeapBytes || got.Time.IsZero() {
		t.Errorf("%+v", got.Node)
	}
	if len(got.Links) != admin.MaxRows || len(got.Limits) != 1 {
		t.Errorf("%d links, limits %v", len(got.Links), got.Limits)
	}
	if !strings.Contains(w.Body.String(), `"points":[]`) || strings.Contains(w.Body.String(), "discv5") {
		t.Errorf("%s", w.Body)
	}
}

func TestPanics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := newServer(t, admin.Config{
		Registerer: reg, Gatherer: reg,
		Snapshot: func() admin.Snapshot { panic("BUG") },
		Peers:    func(int) []admin.Peer { panic("BUG") },
	})
	if w := do(s, "GET", "/api/status", ""); w.Code != 200 {
		t.Errorf("status of a broken source: %d", w.Code)
	}
	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // a panic's value
				t.Errorf("panic %v", p)
			}
		}()
		do(s, "GET", "/api/peers", "")
	}()
	if got := do(s, "GET", "/metrics", "").Body.String(); !strings.Contains(got, "muster_admin_panics_total 2\n") {
		t.Error("the panics are not counted")
	}
}

func TestPeers(t *testing.T) {
	s := newServer(t, admin.Config{Peers: func(limit int) []admin.Peer { return make([]admin.Peer, limit+1) }})
	for path, want := range map[string]int{"/api/peers": admin.MaxPeers, "/api/peers?limit=2": 2, "/api/peers?limit=999999": admin.MaxPeers} {
		var got []admin.Peer
		if err := json.Unmarshal(do(s, "GET", path, "").Body.Bytes(), &got); err != nil || len(got) != want {
			t.Errorf("%s: %d, %v", path, len(got), err)
		}
	}
	for _, path := range []string{"/api/peers?limit=0", "/api/peers?limit=x"} {
		if w := do(s, "GET", path, ""); w.Code != 400 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := do(newServer(t, admin.Config{}), "GET", "/api/peers", ""); w.Body.String() != "[]\n" {
		t.Errorf("%q", w.Body)
	}
}

func TestProfiles(t *testing.T) {
	s := newServer(t, admin.Config{})
	for path, want := range map[string]int{
		"/debug/pprof/": 200, "/debug/pprof/goroutine?debug=1": 200, "/debug/pprof/cmdline": 404,
		"/debug/pprof/profile?seconds=600": 400, "/debug/pprof/heap?seconds=NaN": 400, "/debug/pprof/trace?seconds=-1": 400,
	} {
		if w := do(s, "GET", path, ""); w.Code != want {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestClient(t *testing.T) {
	failing := errors.New("disk full")
	s := start(t, admin.Config{
		Token:  token,
		Checks: map[string]func(context.Context) error{"store": func(context.Context) error { return failing }},
		Peers:  func(int) []admin.Peer { return []admin.Peer{{Peer: "12D3"}} },
	})
	c := &admin.Client{Addr: s.Addr().String(), Token: token}
	if st, err := c.Status(t.Context()); err != nil || st.Node.Goroutines == 0 {
		t.Error(st, err)
	}
	if p, err := c.Peers(t.Context(), 1); err != nil || len(p) != 1 {
		t.Error(p, err)
	}
	if r, err := c.Ready(t.Context()); err != nil || r.Ready || r.Failing["store"] != "disk full" {
		t.Error(r, err)
	}
	if _, err := (&admin.Client{Addr: s.URL()}).Status(t.Context()); !errors.Is(err, admin.ErrRefused) {
		t.Error(err)
	}
	if _, err := (&admin.Client{Addr: "192.0.2.1:80", Token: token}).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "https") {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, admin.ErrNoDaemon) {
		t.Error(err)
	}
}

func TestClientNoDaemon(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html>")
	}))
	defer other.Close()
	if _, err := (&admin.Client{Addr: other.URL}).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "is this a muster daemon") {
		t.Error(err)
	}
}
