package rdv_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/rdv/wire"
)

// newServer returns the URL of a server on loopback.
func newServer(t *testing.T) string {
	t.Helper()
	s := &rdv.Server{}
	s.Start()
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close() //nolint:errcheck // shutting down
		h.Close()
	})
	return h.URL
}

type result struct {
	conn *rdv.Conn
	err  error
}

// pair connects two clients through the server at addr.
func pair(t *testing.T, addr string, dialer, acceptor *rdv.Client) (dial, accept *rdv.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	token := strings.ReplaceAll(t.Name(), "/", "-")
	accepted := make(chan result, 1)
	go func() {
		c, _, err := acceptor.Accept(ctx, addr, token, nil)
		accepted <- result{c, err}
	}()
	dial, _, err := dialer.Dial(ctx, addr, token, nil)
	got := <-accepted
	if err != nil || got.err != nil {
		t.Fatalf("dial: %v, accept: %v", err, got.err)
	}
	t.Cleanup(func() {
		dial.Close()     //nolint:errcheck // the test is over
		got.conn.Close() //nolint:errcheck // the test is over
	})
	return dial, got.conn
}

// exchange sends data both ways, each direction ended by itself.
func exchange(t *testing.T, a, b *rdv.Conn) {
	t.Helper()
	there, back := bytes.Repeat([]byte("there "), 100_000), bytes.Repeat([]byte("back "), 50_000)
	var wg sync.WaitGroup
	send := func(c *rdv.Conn, data []byte) {
		wg.Go(func() {
			if _, err := c.Write(data); err != nil {
				t.Error(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
	}
	receive := func(c *rdv.Conn, want []byte) {
		wg.Go(func() {
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
			}
		})
	}
	send(a, there)
	receive(b, there)
	wg.Wait() // the direction back lives on after the end of the other one
	send(b, back)
	receive(a, back)
	wg.Wait()
}

func TestDirectOnLoopback(t *testing.T) {
	t.Parallel()
	dial, accept := pair(t, newServer(t), &rdv.Client{}, &rdv.Client{})
	if dial.IsRelay || accept.IsRelay {
		t.Errorf("relayed: dialer %v, acceptor %v", dial.IsRelay, accept.IsRelay)
	}
	if dial.Method != rdv.DIAL || accept.Method != rdv.ACCEPT || dial.Token != t.Name() {
		t.Errorf("meta %+v, %+v", dial.Meta, accept.Meta)
	}
	if dial.ObservedAddr == nil || rdv.AddrPortFrom(dial.LocalAddr()).Port() != dial.ObservedAddr.Port() {
		t.Errorf("observed %v, local %v: one port for everything", dial.ObservedAddr, dial.LocalAddr())
	}
	exchange(t, dial, accept)
}

// TestRelayAtOnce: when one side takes no direct connection, the other need
// not wait for one.
func TestRelayAtOnce(t *testing.T) {
	t.Parallel()
	none := &rdv.Client{AddrSpaces: rdv.NoSpaces}
	for _, c := range []struct {
		name             string
		dialer, acceptor *rdv.Client
	}{
		{"dialer", none, &rdv.Client{}},
		{"acceptor", &rdv.Client{}, none},
		{"both", none, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := newServer(t)
			// An hour's patience would fail the test.
			patient := *c.dialer
			patient.Picker = rdv.WaitForP2P(time.Hour)
			dial, accept := pair(t, addr, &patient, c.acceptor)
			if !dial.IsRelay || !accept.IsRelay {
				t.Errorf("relayed: dialer %v, acceptor %v", dial.IsRelay, accept.IsRelay)
			}
			exchange(t, dial, accept)
		})
	}
}

func TestPickFirstTakesTheRelay(t *testing.T) {
	t.Parallel()
	dial, accept := pair(t, newServer(t), &rdv.Client{Picker: rdv.PickFirst()}, &rdv.Client{})
	if !dial.IsRelay || !accept.IsRelay {
		t.Errorf("relayed: dialer %v, acceptor %v", dial.IsRelay, accept.IsRelay)
	}
	exchange(t, dial, accept)
}

func TestTLSAndHeader(t *testing.T) {
	t.Parallel()
	s := &rdv.Server{}
	s.Start()
	auth := make(chan string, 2)
	h := httptest.NewTLSServer(http.StripPrefix("/rdv/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth <- r.Header.Get("Authorization")
		s.ServeHTTP(w, r)
	})))
	defer h.Close()
	defer s.Close() //nolint:errcheck // shutting down
	client := &rdv.Client{TlsConfig: h.Client().Transport.(*http.Transport).TLSClientConfig, AddrSpaces: rdv.NoSpaces}
	withUser := strings.Replace(h.URL, "https://", "https://user:pass@", 1)
	dial, accept := pair(t, withUser+"/rdv", client, client)
	exchange(t, dial, accept)
	if got := <-auth; got != "Basic dXNlcjpwYXNz" {
		t.Errorf("Authorization: %q", got)
	}
}

func TestIPv6OnlyServer(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	}
	s := &rdv.Server{}
	s.Start()
	h := &httptest.Server{Listener: ln, Config: &http.Server{Handler: s}}
	h.Start()
	defer h.Close()
	defer s.Close() //nolint:errcheck // shutting down
	dial, accept := pair(t, h.URL, &rdv.Client{}, &rdv.Client{})
	if dial.IsRelay {
		t.Error("relayed")
	}
	exchange(t, dial, accept)
}

// connectProxy is an HTTP proxy that only makes tunnels.
func connectProxy(t *testing.T, wantAuth string) *url.URL {
	t.Helper()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != wantAuth {
			http.Error(w, "no", http.StatusProxyAuthRequired)
			return
		}
		up, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		down, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(down, "HTTP/1.1 200 OK\r\n\r\n")
		var wg sync.WaitGroup
		copyHalf := func(dst, src net.Conn) {
			io.Copy(dst, src)               //nolint:errcheck // a proxy
			dst.(*net.TCPConn).CloseWrite() //nolint:errcheck // a proxy
		}
		wg.Go(func() { copyHalf(up, down) })
		wg.Go(func() { copyHalf(down, up) })
		wg.Wait()
		up.Close()   //nolint:errcheck // a proxy
		down.Close() //nolint:errcheck // a proxy
	}))
	t.Cleanup(h.Close)
	u, err := url.Parse(h.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestThroughProxy(t *testing.T) {
	t.Parallel()
	proxy := connectProxy(t, "Basic dXNlcjpwYXNz")
	proxy.User = url.UserPassword("user", "pass")
	client := &rdv.Client{Proxy: http.ProxyURL(proxy), AddrSpaces: rdv.NoSpaces}
	dial, accept := pair(t, newServer(t), client, client)
	exchange(t, dial, accept)

	proxy.User = nil
	_, _, err := client.Dial(t.Context(), newServer(t), "t", nil)
	if err == nil || !strings.Contains(err.Error(), "407") {
		t.Errorf("refused by the proxy: %v", err)
	}
}

func TestRefusalsAreReturned(t *testing.T) {
	t.Parallel()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, strings.Repeat("short and stout\n", 1000)) //nolint:errcheck // a test
	}))
	defer h.Close()
	conn, resp, err := (&rdv.Client{}).Dial(t.Context(), h.URL, "t", nil)
	if conn != nil || !errors.Is(err, rdv.ErrBadHandshake) || resp == nil || resp.StatusCode != http.StatusTeapot {
		t.Fatalf("got %v, %v, %v", conn, resp, err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 1024 {
		t.Errorf("a body of %d bytes, %v, want 1024", len(body), err)
	}
}

func TestArgumentsAreChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ method, addr, token string }{
		{"GET", "http://127.0.0.1:1", "t"},
		{rdv.DIAL, "http://127.0.0.1:1", ""},
		{rdv.DIAL, "ftp://127.0.0.1:1", "t"},
		{rdv.DIAL, "127.0.0.1:1", "t"},
		{rdv.DIAL, "http://", "t"},
	} {
		if _, _, err := (&rdv.Client{}).Do(t.Context(), c.method, c.addr, c.token, nil); err == nil {
			t.Errorf("Do(%q, %q, %q) returned no error", c.method, c.addr, c.token)
		}
	}
}

// rawServer answers every connection with the function, in place of a server.
func rawServer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close() //nolint:errcheck // a test
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close() //nolint:errcheck // a test
		wg.Wait()
	})
	return "http://" + ln.Addr().String()
}

// silent returns where connections are made and nobody says anything: as a
// peer's address it keeps a client looking.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ln.Close() //nolint:errcheck // a test
	})
	return rdv.AddrPortFrom(ln.Addr())
}

// TestLyingServers: whatever a server says, the client returns an error, in
// bounded memory.
func TestLyingServers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"no HTTP":        "SSH-2.0-OpenSSH_9.2\r\n",
		"nothing":        "",
		"endless status": strings.Repeat("x", 1<<20),
		"endless fields": "HTTP/1.1 101 Switching Protocols\r\n" + strings.Repeat("A: b\r\n", 1<<18),
		"no upgrade":     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
		"bad addrs":      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: rdv/1\r\nRdv-Peer-Addrs: example.com:80\r\n\r\n",
		"eleven addrs":   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: rdv/1\r\nRdv-Peer-Addrs: " + strings.Repeat("1.2.3.4:5000,", 11) + "\r\n\r\n",
		"bad observed":   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: rdv/1\r\nRdv-Observed-Addr: me\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := rawServer(t, func(c net.Conn) {
				http.ReadRequest(bufio.NewReader(c)) //nolint:errcheck // a test
				io.WriteString(c, answer)            //nolint:errcheck // a test
			})
			if _, _, err := (&rdv.Client{}).Dial(t.Context(), addr, "t", nil); !errors.Is(err, rdv.ErrBadHandshake) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// switchProtocols answers a request as a server does.
func switchProtocols(t *testing.T, c net.Conn, resp wire.Response) *bufio.Reader {
	br := bufio.NewReader(c)
	if _, err := http.ReadRequest(br); err != nil {
		t.Error(err)
	}
	b, err := resp.AppendTo(nil)
	if err != nil {
		t.Error(err)
	}
	if _, err := c.Write(b); err != nil {
		t.Error(err)
	}
	return br
}

// pickOnce ends the attempt when done is closed, and picks what came first.
type pickOnce struct{ done <-chan struct{} }

func (p pickOnce) Pick(candidates chan *rdv.Conn, cancel func()) (conns []*rdv.Conn) {
	go func() {
		<-p.done
		cancel()
	}()
	for c := range candidates {
		conns = append(conns, c)
	}
	return conns
}

// TestStrangersLearnNothing: a host that the server names as the peer, and
// that is not, does not see the token when server and peer are ours; and
// whatever it says, it is not taken for the peer.
func TestStrangersLearnNothing(t *testing.T) {
	t.Parallel()
	const token = "a-token-that-is-secret"
	for _, answer := range []string{
		"", "\n", "rdv/1 ACCEPT " + token + "\n", "rdv/1 DIAL x\n", "ECHO", strings.Repeat("x", 1<<16),
	} {
		stranger, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var line string
		rejected := make(chan struct{})
		go func() {
			defer close(rejected)
			c, err := stranger.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close() //nolint:errcheck // a test
			br := bufio.NewReader(c)
			line, _ = br.ReadString('\n')
			reply := answer
			if answer == "ECHO" {
				reply = strings.Replace(line, "DIAL", "ACCEPT", 1)
			}
			io.WriteString(c, reply)      //nolint:errcheck // a test
			c.(*net.TCPConn).CloseWrite() //nolint:errcheck // a test
			io.Copy(io.Discard, br)       //nolint:errcheck // until the client closes
		}()
		addr := rawServer(t, func(c net.Conn) {
			br := switchProtocols(t, c, wire.Response{
				Observed:  rdv.AddrPortFrom(c.RemoteAddr()),
				PeerAddrs: []netip.AddrPort{rdv.AddrPortFrom(stranger.Addr())},
				PeerExt:   wire.Ext{Proof: true, Nonce: make([]byte, wire.NonceLen)}.String(),
			})
			if line, err := br.ReadString('\n'); line != "CONTINUE\n" {
				t.Errorf("on the relay: %q, %v", line, err)
			}
		})
		conn, _, err := (&rdv.Client{Picker: pickOnce{rejected}}).Dial(t.Context(), addr, token, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !conn.IsRelay {
			t.Errorf("took the stranger who said %.40q for the peer", answer)
		}
		conn.Close() //nolint:errcheck // a test
		if strings.Contains(line, token) || !strings.HasPrefix(line, "rdv/1 DIAL ") {
			t.Errorf("the stranger heard %q", line)
		}
		stranger.Close() //nolint:errcheck // a test
	}
}

// TestAcceptorOutlivesTheRelay: a server may close the relay when it hears
// OTHER, before the acceptor hears CONTINUE.
func TestAcceptorOutlivesTheRelay(t *testing.T) {
	t.Parallel()
	clientAddr := make(chan netip.AddrPort, 1)
	greeted, closed := make(chan struct{}), make(chan struct{})
	peerAddrs := []netip.AddrPort{silent(t)}
	addr := rawServer(t, func(c net.Conn) {
		clientAddr <- rdv.AddrPortFrom(c.RemoteAddr())
		switchProtocols(t, c, wire.Response{Observed: rdv.AddrPortFrom(c.RemoteAddr()), PeerAddrs: peerAddrs})
		<-greeted
		c.Close() //nolint:errcheck // a test
		close(closed)
	})
	go func() {
		var c net.Conn
		to := <-clientAddr
		for {
			var err error
			if c, err = net.Dial("tcp", to.String()); err == nil {
				break
			}
		}
		defer c.Close()                                                  //nolint:errcheck // a test
		c.Write(wire.Hello{Method: wire.Dial, Token: "t"}.AppendTo(nil)) //nolint:errcheck // a test
		if line, err := bufio.NewReader(c).ReadString('\n'); line != "rdv/1 ACCEPT t\n" {
			t.Errorf("acceptor said %q, %v", line, err)
		}
		close(greeted)
		<-closed
		io.WriteString(c, "CONTINUE\nhello") //nolint:errcheck // a test
	}()
	conn, _, err := (&rdv.Client{}).Accept(t.Context(), addr, "t", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test
	var got bytes.Buffer
	if _, err := io.Copy(&got, conn); err != nil || got.String() != "hello" {
		t.Errorf("read %q, %v", got.String(), err)
	}
}

// TestSilentStrangerIsNotAnswered: without proofs, who connects must say the
// token first.
func TestSilentStrangerIsNotAnswered(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	peerAddrs := []netip.AddrPort{silent(t)}
	addr := rawServer(t, func(c net.Conn) {
		switchProtocols(t, c, wire.Response{Observed: rdv.AddrPortFrom(c.RemoteAddr()), PeerAddrs: peerAddrs})
		stranger, err := net.Dial("tcp", c.RemoteAddr().String())
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(stranger, "rdv/1 DIAL wrong\n") //nolint:errcheck // a test
		if b, err := io.ReadAll(stranger); len(b) > 0 {
			t.Errorf("the stranger heard %q, %v", b, err)
		}
		io.WriteString(c, "CONTINUE\n") //nolint:errcheck // a test
		<-done
	})
	conn, _, err := (&rdv.Client{}).Accept(t.Context(), addr, "t", nil)
	close(done)
	if err != nil || !conn.IsRelay {
		t.Fatalf("got %v, %v", conn, err)
	}
	conn.Close() //nolint:errcheck // a test
}

func TestTimeoutAndCancel(t *testing.T) {
	t.Parallel()
	_, _, err := (&rdv.Client{Timeout: 50 * time.Millisecond}).Dial(t.Context(), newServer(t), "nobody", nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("time-out: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	addr := rawServer(t, func(c net.Conn) {
		br := bufio.NewReader(c)
		http.ReadRequest(br) //nolint:errcheck // a test
		cancel()
		br.ReadByte() //nolint:errcheck // until the client closes
	})
	_, _, err = (&rdv.Client{}).Accept(ctx, addr, "nobody", nil)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "wait for the peer") {
		t.Errorf("cancel: %v", err)
	}
}

func TestUntrustedCertificate(t *testing.T) {
	t.Parallel()
	h := httptest.NewUnstartedServer(http.NotFoundHandler())
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.StartTLS()
	defer h.Close()
	_, _, err := (&rdv.Client{}).Dial(t.Context(), h.URL, "t", nil)
	var cert *tls.CertificateVerificationError
	if !errors.As(err, &cert) {
		t.Errorf("got %v", err)
	}
}
