//go:build unix

package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-p2p/muster/rdv"
)

// documented returns the block of docs/operate.md in this language.
func documented(t *testing.T, language string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "operate.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "```"+language+"\n")
	block, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatalf("docs/operate.md has no block of %s", language)
	}
	return block
}

// reservePort returns a port of loopback that only programs of this user can
// listen on until the test ends: a socket that does not listen is bound to it.
func reservePort(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) }) // it was only bound
	at := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), unix.Bind(fd, at))
	if err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(bound.(*unix.SockaddrInet4).Port))
}

// startProxy runs a reverse proxy and waits until it listens.
func startProxy(t *testing.T, program string, start func(dir, addr string) *exec.Cmd) (url string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%v", err)
	}
	addr := reservePort(t).String()
	cmd := start(t.TempDir(), addr)
	cmd.Path = path
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has nothing to lose
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", program, out.String())
		}
	})
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close() // it listens
			return "http://" + addr
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("%s does not listen: %v", program, err)
		}
	}
}

// TestBehindProxies: with the configurations in docs/operate.md, peers meet
// through nginx and HAProxy, and the server sees their own addresses, whatever
// they say of themselves.
func TestBehindProxies(t *testing.T) {
	upstream := startRdvServer(t, "--trust-proxy", "127.0.0.1")
	config := func(language string) string {
		return strings.ReplaceAll(documented(t, language), "127.0.0.1:8080", strings.TrimPrefix(upstream, "http://"))
	}
	write := func(t *testing.T, name, text string) string {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	t.Run("nginx", func(t *testing.T) {
		behindProxy(t, startProxy(t, "nginx", func(dir, addr string) *exec.Cmd {
			var tmp strings.Builder
			for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				tmp.WriteString(kind + "_temp_path '" + dir + "/" + kind + "';")
			}
			conf := write(t, filepath.Join(dir, "nginx.conf"), "daemon off; master_process off; error_log stderr; pid '"+dir+"/pid';\n"+
				"events {} http { access_log off; "+tmp.String()+" server { listen "+addr+" reuseport;\n"+config("nginx")+"} }\n")
			return exec.Command("nginx", "-p", dir, "-e", "stderr", "-c", conf)
		})+"/rdv/")
	})
	t.Run("HAProxy", func(t *testing.T) {
		behindProxy(t, startProxy(t, "haproxy", func(dir, addr string) *exec.Cmd {
			conf := strings.Replace(config("haproxy"), "bind :80", "bind "+addr, 1)
			return exec.Command("haproxy", "-f", write(t, filepath.Join(dir, "haproxy.cfg"), conf))
		})+"/")
	})
}

func behindProxy(t *testing.T, url string) {
	client := &rdv.Client{AddrSpaces: rdv.NoSpaces, Timeout: 30 * time.Second}
	accepted := make(chan *rdv.Conn, 1)
	go func() {
		c, _, err := client.Accept(t.Context(), url, "t", nil)
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	d, _, err := client.Dial(t.Context(), url, "t", nil)
	a := <-accepted
	if err != nil || a == nil {
		t.Fatal(err)
	}
	defer func() { _, _ = d.Close(), a.Close() }()
	for _, pair := range [][2]net.Conn{{d, a}, {a, d}} {
		got := make([]byte, 5)
		if _, err := io.WriteString(pair[0], "hello"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(pair[1], got); err != nil || string(got) != "hello" {
			t.Fatalf("read %q, %v", got, err)
		}
	}

	var conns []net.Conn
	for _, method := range []string{rdv.ACCEPT, rdv.DIAL} {
		conns = append(conns, askServe(t, url, method, "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Port: 4711"))
	}
	for _, c := range conns {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Rdv-Observed-Addr"); got != c.LocalAddr().String() {
			t.Errorf("status %d, observed at %q, want %s", resp.StatusCode, got, c.LocalAddr())
		}
	}
}
