package acme

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// limit is how long anything may take to be said: a failed attempt is repeated
// after a minute.
const limit = 3 * time.Minute

// tool is the path of a program, which build.sh has built, or has said why not.
func tool(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("INTEROP_BIN")
	if dir == "" {
		t.Skip("skip: INTEROP_BIN is not set; run 'make interop-acme'")
	}
	if why, err := os.ReadFile(filepath.Join(dir, name+".why")); err == nil {
		t.Skipf("skip: %s is not here: %s", name, why)
	}
	return filepath.Join(dir, name)
}

// A process is a program that runs, and what it says.
type process struct {
	t   *testing.T
	cmd *exec.Cmd

	mu   sync.Mutex
	out  bytes.Buffer
	more chan struct{} // closed and made anew at each line
	read int           // what waitFor has looked at
	end  func()
}

func start(t *testing.T, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(name, args...), more: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	p.end = sync.OnceFunc(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(limit):
			_ = p.cmd.Process.Kill()
			t.Errorf("%s does not stop", name)
		}
	})
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(name), p.said())
		}
	})
	return p
}

// Write takes what the process says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.more)
	p.more = make(chan struct{})
	return p.out.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// waitFor returns the next line with text in it.
func (p *process) waitFor(text string) string {
	p.t.Helper()
	late := time.After(limit)
	for {
		p.mu.Lock()
		line, ok := p.nextLocked(text)
		more := p.more
		p.mu.Unlock()
		if ok {
			return line
		}
		select {
		case <-more:
		case <-late:
			p.t.Fatalf("never said %q", text)
		}
	}
}

func (p *process) nextLocked(text string) (string, bool) {
	for {
		line, _, whole := strings.Cut(p.out.String()[p.read:], "\n")
		if !whole {
			return "", false
		}
		p.read += len(line) + 1
		if strings.Contains(line, text) {
			return line, true
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// pause is between two looks at a thing that does not say when it changes.
func (p *process) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-p.t.Context().Done():
		p.t.Fatal("too late")
	}
}

// closedPort is a port that nobody listens on.
func closedPort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port
}

// An authority is pebble, with a DNS server that knows every name.
type authority struct {
	t                 *testing.T
	dir               string
	port, admin       int
	tlsPort, httpPort int
	life              time.Duration
	account, key      string
	proc              *process
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	tool(t, "pebble")
	a := &authority{t: t, dir: t.TempDir(), port: closedPort(t), admin: closedPort(t), tlsPort: 1, httpPort: 1, life: 90 * 24 * time.Hour}
	a.ownCert()
	return a
}

// ownCert writes what pebble's own listeners are secured with.
func (a *authority) ownCert() {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	a.write("ca.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))
}

func (a *authority) write(name string, b []byte) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), b, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// start runs pebble, which refuses one nonce in twenty and forgets what it knew
// when it ends.
func (a *authority) start() {
	a.t.Helper()
	dns := closedPort(a.t)
	start(a.t, tool(a.t, "pebble-challtestsrv"), nil, "-dnsserver", fmt.Sprintf("127.0.0.1:%d", dns),
		"-management", fmt.Sprintf("127.0.0.1:%d", closedPort(a.t)), "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "").waitFor("Starting management server")
	cfg := map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", a.port), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", a.admin),
		"certificate": filepath.Join(a.dir, "ca.pem"), "privateKey": filepath.Join(a.dir, "ca.key"),
		"httpPort": a.httpPort, "tlsPort": a.tlsPort,
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]any{"default": map[string]any{"description": "default", "validityPeriod": int(a.life.Seconds())}},
	}
	if a.account != "" {
		cfg["externalAccountBindingRequired"] = true
		cfg["externalAccountMACKeys"] = map[string]string{a.account: a.key}
	}
	b, err := json.Marshal(map[string]any{"pebble": cfg})
	if err != nil {
		a.t.Fatal(err)
	}
	a.write("pebble.json", b)
	a.proc = start(a.t, tool(a.t, "pebble"), []string{"PEBBLE_VA_NOSLEEP=1"},
		"-config", filepath.Join(a.dir, "pebble.json"), "-dnsserver", fmt.Sprintf("127.0.0.1:%d", dns), "-strict")
	a.proc.waitFor("ACME directory available")
}

func (a *authority) stop()        { a.proc.end() }
func (a *authority) said() string { return a.proc.said() }

// roots are what a client trusts who trusts the authority.
func (a *authority) roots() *x509.CertPool {
	a.t.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := c.Get(fmt.Sprintf("https://127.0.0.1:%d/roots/0", a.admin))
	if err != nil {
		a.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(b) {
		a.t.Fatalf("%v: %s", err, b)
	}
	return roots
}

// A point is 'muster serve' with a certificate of the authority.
type point struct {
	*process
	admin string
}

func startPoint(t *testing.T, dir string, g *gate, a *authority, args ...string) *point {
	t.Helper()
	data := filepath.Join(dir, "data")
	p := &point{process: start(t, tool(t, "muster"), nil, append([]string{
		"serve", "--json", "--data-dir", data, "--store", "memory", "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0",
		"--admin", "127.0.0.1:0", "--discv5=false", "--drain", "1s", "--tls-mode", "acme", "--tls-hosts", host,
		"--tls-acme-url", fmt.Sprintf("https://127.0.0.1:%d/dir", a.port), "--tls-acme-ca-file", filepath.Join(a.dir, "ca.pem"),
	}, args...)...)}
	var ready struct {
		RDV   []string `json:"rdv"`
		Admin string
	}
	if err := json.Unmarshal([]byte(p.waitFor(`"event":"ready"`)), &ready); err != nil {
		t.Fatal(err)
	}
	p.admin = strings.TrimSuffix(ready.Admin, "/")
	port := strings.TrimSuffix(ready.RDV[0][strings.LastIndex(ready.RDV[0], ":")+1:], "/")
	if want := "https://" + host + ":"; !strings.HasPrefix(ready.RDV[0], want) {
		t.Errorf("others are told of %s, want %s…", ready.RDV[0], want)
	}
	g.lead("127.0.0.1:" + port)
	p.process.mu.Lock()
	p.process.read = 0 // what it said before it was ready counts too
	p.process.mu.Unlock()
	return p
}

func (p *point) stop() { p.end() }

func (p *point) asked() (int, string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.admin+"/readyz?format=json", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, string(b)
}

func (p *point) ready() int { status, _ := p.asked(); return status }

func (p *point) wantReady(status int, text string) {
	p.t.Helper()
	if got, body := p.asked(); got != status || !strings.Contains(body, text) {
		p.t.Errorf("ready: %d %s, want %d and %q", got, body, status, text)
	}
}
