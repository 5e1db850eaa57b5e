package rdv_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/rdv"
)

// patience bounds what a test waits for; nothing takes as long, on no machine.
const patience = time.Minute

// A point is a server under test, on loopback.
type point struct {
	t    *testing.T
	srv  *rdv.Server
	http *http.Server
	addr netip.AddrPort
}

// serve starts srv with the http.Server that it recommends, changed by edit.
func serve(t *testing.T, srv *rdv.Server, edit ...func(*http.Server)) *point {
	t.Helper()
	return serveAt(t, srv, "127.0.0.1:0", edit...)
}

func serveAt(t *testing.T, srv *rdv.Server, addr string, edit ...func(*http.Server)) *point {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &point{t: t, srv: srv, http: srv.HTTPServer(), addr: rdv.AddrPortFrom(ln.Addr())}
	for _, f := range edit {
		f(p.http)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.http.Serve(ln) })
	t.Cleanup(func() {
		_ = p.http.Close()
		_ = srv.Close()
		wg.Wait()
	})
	return p
}

// A caller is a client as the wire sees it.
type caller struct {
	*net.TCPConn
	t *testing.T
	r *bufio.Reader
}

func (p *point) dial() *caller { return p.dialFrom("127.0.0.1") }

// dialFrom connects from a loopback address: each is a source of its own.
func (p *point) dialFrom(ip string) *caller {
	p.t.Helper()
	d := net.Dialer{Timeout: patience}
	if p.addr.Addr().Is4() {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(ip)}
	}
	c, err := d.Dial("tcp", p.addr.String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	return &caller{TCPConn: c.(*net.TCPConn), t: p.t, r: bufio.NewReader(c)}
}

const upgrade = "Host: point\r\nConnection: upgrade\r\nUpgrade: rdv/1\r\n"

// ask sends a request for a token, with more header lines.
func (c *caller) ask(method, token string, lines ...string) *caller {
	c.t.Helper()
	return c.send(method + " /" + token + " HTTP/1.1\r\n" + upgrade + strings.Join(append(lines, ""), "\r\n") + "\r\n")
}

func (c *caller) send(s string) *caller {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// wantStatus reads a response and its body.
func (c *caller) wantStatus(want int) *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("read response: %v, want status %d", err, want)
	}
	body := ""
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			c.t.Errorf("read body: %v", err)
		}
		body = string(b)
	}
	if resp.StatusCode != want {
		c.t.Fatalf("status %d %q, want %d", resp.StatusCode, body, want)
	}
	return resp
}

func (c *caller) want(s string) {
	c.t.Helper()
	got := make([]byte, len(s))
	if n, err := io.ReadFull(c.r, got); err != nil || string(got) != s {
		c.t.Fatalf("read %q, %v; want %q", got[:n], err, s)
	}
}

// wantEnd wants the end of the connection, or of its other direction.
func (c *caller) wantEnd() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if len(rest) > 0 || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		c.t.Fatalf("read %q, %v; want the end", rest, err)
	}
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// waiting waits until n clients are in the lobby.
func (p *point) waiting(n int) {
	p.eventually(func() bool { return p.srv.Stats().Waiting == n }, "waiting")
}

// eventually waits for what another goroutine of the server brings about.
func (p *point) eventually(ok func() bool, what string) {
	p.t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			p.t.Fatalf("%s: not after %v; stats %+v", what, patience, p.srv.Stats())
		}
		time.Sleep(time.Millisecond)
	}
}

// pair connects a dialer and an acceptor up to their responses.
func (p *point) pair(token string) (d, a *caller) {
	p.t.Helper()
	a = p.dial().ask(rdv.ACCEPT, token)
	d = p.dial().ask(rdv.DIAL, token)
	d.wantStatus(http.StatusSwitchingProtocols)
	a.wantStatus(http.StatusSwitchingProtocols)
	return d, a
}

// relayed connects a pair through the relay.
func (p *point) relayed(token string) (d, a *caller) {
	p.t.Helper()
	d, a = p.pair(token)
	d.send("CONTINUE\n")
	a.want("CONTINUE\n")
	return d, a
}

func TestRefusals(t *testing.T) {
	long := strings.Repeat("a", rdv.DefaultMaxToken+1)
	addrs := strings.TrimSuffix(strings.Repeat("192.0.2.1:1, ", 10), ", ")
	for _, tt := range []struct {
		name, request string
		want          int
	}{
		{"no upgrade", "DIAL /t HTTP/1.1\r\nHost: x\r\n\r\n", 426},
		{"plain GET", "GET /t HTTP/1.1\r\nHost: x\r\n\r\n", 426},
		{"only Upgrade", "DIAL /t HTTP/1.1\r\nHost: x\r\nUpgrade: rdv/1\r\n\r\n", 426},
		{"only Connection", "DIAL /t HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\r\n", 426},
		{"other protocol", "DIAL /t HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: rdv/2\r\n\r\n", 426},
		{"websocket", "GET /t HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 426},
		{"HTTP/1.0", "DIAL /t HTTP/1.0\r\n" + upgrade + "\r\n", 426},
		{"GET", "GET /t HTTP/1.1\r\n" + upgrade + "\r\n", 400},
		{"method in lower case", "dial /t HTTP/1.1\r\n" + upgrade + "\r\n", 400},
		{"no token", "DIAL / HTTP/1.1\r\n" + upgrade + "\r\n", 400},
		{"long token", "DIAL /" + long + " HTTP/1.1\r\n" + upgrade + "\r\n", 400},
		{"two words", "DIAL /a%20b HTTP/1.1\r\n" + upgrade + "\r\n", 400},
		{"line feed in token", "DIAL /a%0Ab HTTP/1.1\r\n" + upgrade + "\r\n", 400},
		{"zero byte in token", "DIAL /a%00b HTTP/1.1\r\n" + upgrade + "\r\n", 400},
		{"token with a path", "DIAL /a/b HTTP/1.1\r\n" + upgrade + "\r\n", 400},
		{"bad escape", "DIAL /a%zz HTTP/1.1\r\n" + upgrade + "\r\n", 400},
		{"bad address", "DIAL /t HTTP/1.1\r\n" + upgrade + "Rdv-Self-Addrs: nowhere\r\n\r\n", 400},
		{"address with a zone", "DIAL /t HTTP/1.1\r\n" + upgrade + "Rdv-Self-Addrs: [fe80::1%eth0]:1\r\n\r\n", 400},
		{"address without a port", "DIAL /t HTTP/1.1\r\n" + upgrade + "Rdv-Self-Addrs: 192.0.2.1\r\n\r\n", 400},
		{"ten addresses", "DIAL /t HTTP/1.1\r\n" + upgrade + "Rdv-Self-Addrs: " + addrs + "\r\n\r\n", 400},
		{"many fields", "DIAL /t HTTP/1.1\r\n" + upgrade + strings.Repeat("X:\r\n", rdv.MaxFields) + "\r\n", 431},
		{"large header", "DIAL /t HTTP/1.1\r\n" + upgrade + "X: " + strings.Repeat("x", rdv.MaxHeader) + "\r\n\r\n", 431},

		// What a proxy in front may frame differently than we do.
		{"content", "DIAL /t HTTP/1.1\r\n" + upgrade + "Content-Length: 3\r\n\r\nabc", 400},
		{"content, not sent", "DIAL /t HTTP/1.1\r\n" + upgrade + "Content-Length: 3\r\n\r\n", 400},
		{"two lengths", "DIAL /t HTTP/1.1\r\n" + upgrade + "Content-Length: 0\r\nContent-Length: 3\r\n\r\nabc", 400},
		{"signed length", "DIAL /t HTTP/1.1\r\n" + upgrade + "Content-Length: +0\r\n\r\n", 400},
		{"list of lengths", "DIAL /t HTTP/1.1\r\n" + upgrade + "Content-Length: 0, 3\r\n\r\nabc", 400},
		{"chunked", "DIAL /t HTTP/1.1\r\n" + upgrade + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"chunked and length", "DIAL /t HTTP/1.1\r\n" + upgrade + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"unknown coding", "DIAL /t HTTP/1.1\r\n" + upgrade + "Transfer-Encoding: xchunked\r\n\r\n", 501},
		{"obsolete chunked", "DIAL /t HTTP/1.1\r\n" + upgrade + "Transfer-Encoding : chunked\r\n\r\n", 400},
		{"space before colon", "DIAL /t HTTP/1.1\r\n" + upgrade + "Content-Length : 3\r\n\r\nabc", 400},
		{"bare carriage return", "DIAL /t HTTP/1.1\r\n" + upgrade + "X: a\rContent-Length: 3\r\n\r\n", 400},
		{"no Host", "DIAL /t HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: rdv/1\r\n\r\n", 400},
		{"two Hosts", "DIAL /t HTTP/1.1\r\nHost: y\r\n" + upgrade + "\r\n", 400},
		{"expectation", "DIAL /t HTTP/1.1\r\n" + upgrade + "Expect: 100-continue\r\n\r\n", 400},
		{"data", "DIAL /t HTTP/1.1\r\n" + upgrade + "\r\nhello", 400},
		{"next request", strings.Repeat("DIAL /t HTTP/1.1\r\n"+upgrade+"\r\n", 2), 400},
		{"no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := serve(t, &rdv.Server{})
			c := p.dial().send(tt.request)
			resp := c.wantStatus(tt.want)
			c.wantEnd()
			if resp.StatusCode == 426 && resp.Header.Get("Upgrade") != "rdv/1" {
				t.Error("426 without the protocol to upgrade to")
			}
			if n := p.srv.Stats().Waiting; n != 0 {
				t.Errorf("%d clients wait", n)
			}
		})
	}
}

// What may be written differently is taken all the same.
func TestRequestsThatAreTaken(t *testing.T) {
	for _, tt := range []struct {
		name, request string
		any           bool
	}{
		{"as documented", "ACCEPT /t HTTP/1.1\r\n" + upgrade + "\r\n", false},
		{"any case", "ACCEPT /t HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: RDV/1\r\n\r\n", false},
		{"lists", "ACCEPT /t HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: rdv/9, rdv/1\r\n\r\n", false},
		{"no content", "ACCEPT /t HTTP/1.1\r\n" + upgrade + "Content-Length: 0\r\n\r\n", false},
		{"no addresses", "ACCEPT /t HTTP/1.1\r\n" + upgrade + "Rdv-Self-Addrs:\r\n\r\n", false},
		{"many fields", "ACCEPT /t HTTP/1.1\r\n" + upgrade + strings.Repeat("X:\r\n", rdv.MaxFields-2) + "\r\n", false},
		{"nine addresses", "ACCEPT /t HTTP/1.1\r\n" + upgrade + "Rdv-Self-Addrs: " + strings.Repeat("192.0.2.1:1,", 9) + "\r\n\r\n", false},
		{"escaped", "ACCEPT /%74 HTTP/1.1\r\n" + upgrade + "\r\n", false},
		{"a query", "ACCEPT /t?x=y HTTP/1.1\r\n" + upgrade + "\r\n", false},
		{"absolute form", "ACCEPT http://x/t HTTP/1.1\r\n" + upgrade + "\r\n", false},
		{"any token", "ACCEPT /a%2Fb%20%25%3F%23%C3%BC HTTP/1.1\r\n" + upgrade + "\r\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := serve(t, &rdv.Server{AnyToken: tt.any})
			p.dial().send(tt.request)
			p.waiting(1)
		})
	}
}

func TestPairIsIntroduced(t *testing.T) {
	p := serve(t, &rdv.Server{})
	d := p.dial().ask(rdv.DIAL, "t", "Rdv-Self-Addrs: 192.0.2.1:4000, [2001:db8::1]:4000")
	p.waiting(1)
	a := p.dial().ask(rdv.ACCEPT, "t")
	dSeen, aSeen := d.LocalAddr().String(), a.LocalAddr().String()
	d.want("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: rdv/1\r\n" +
		"Rdv-Observed-Addr: " + dSeen + "\r\nRdv-Peer-Addrs: " + aSeen + "\r\n\r\n")
	a.want("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: rdv/1\r\n" +
		"Rdv-Observed-Addr: " + aSeen + "\r\nRdv-Peer-Addrs: 192.0.2.1:4000, [2001:db8::1]:4000, " + dSeen + "\r\n\r\n")
}

// The relay is the application's from the byte after CONTINUE on.
func TestRelay(t *testing.T) {
	for _, tt := range []struct{ name, command string }{
		{"in one write", "CONTINUE\nhello"},
		{"with a carriage return", "CONTINUE\r\nhello"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := serve(t, &rdv.Server{})
			d, a := p.pair("t")
			a.send("early") // the acceptor may speak at once, it is heard after CONTINUE
			d.send(tt.command)
			a.want("CONTINUE\nhello")
			d.want("early")
			a.send("and back")
			d.want("and back")
			_ = a.Close()
			d.wantEnd()
		})
	}
}

func TestRelayByteByByte(t *testing.T) {
	p := serve(t, &rdv.Server{})
	d, a := p.pair("t")
	for _, b := range []byte("CONTINUE\nhello") {
		d.send(string(b))
	}
	a.want("CONTINUE\nhello")
}

// One end has said all, the other goes on: rdv v0.0.6 cuts it off.
func TestHalfClose(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	p := serve(t, &rdv.Server{})
	d, a := p.relayed("t")
	d.send("request")
	if err := d.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	a.want("request")
	a.wantEnd()
	go func() { _, _ = a.Write(big); _ = a.CloseWrite() }()
	got, err := io.ReadAll(d.r)
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(big))
	}
	p.eventually(func() bool { return p.srv.Stats().Pairs == 0 }, "pair gone")
}

func TestOther(t *testing.T) {
	got := make(chan error, 1)
	p := serve(t, &rdv.Server{Handler: handlerFunc(func(ctx context.Context, dc, ac *rdv.Conn) {
		got <- new(rdv.Relayer).Continue(ctx, dc, ac)
		_, _ = dc.Close(), ac.Close()
	})})
	d, a := p.pair("t")
	d.send("OTHER 192.0.2.1:4000\n")
	d.wantEnd()
	a.wantEnd()
	other, ok := errors.AsType[rdv.ErrOther](<-got)
	if want := netip.MustParseAddrPort("192.0.2.1:4000"); !ok || other.Addr != want {
		t.Errorf("got %v, want ErrOther with %v", other, want)
	}
}

type handlerFunc func(ctx context.Context, dc, ac *rdv.Conn)

func (f handlerFunc) Serve(ctx context.Context, dc, ac *rdv.Conn) { f(ctx, dc, ac) }

// What is no command ends the pair at once, without a wait for more.
func TestBadCommands(t *testing.T) {
	for _, line := range []string{
		"X", "FOO\n", "CONTINUE ", "CONTINUE\rx", "continue\n", "\n", "OTHER\n", "OTHER \n", "OTHER nowhere\n", "OTHER 192.0.2.1\n",
		"OTHER [fe80::1%eth0]:1\n", "OTHER " + strings.Repeat("1", 5000), "rdv/1 DIAL t\n", "GET / HTTP/1.1\r\n\r\n",
	} {
		t.Run(fmt.Sprintf("%.20q", line), func(t *testing.T) {
			p := serve(t, &rdv.Server{})
			d, a := p.pair("t")
			d.send(line)
			a.wantEnd()
			d.wantEnd()
		})
	}
}

func TestWaiterThatLeavesIsDropped(t *testing.T) {
	p := serve(t, &rdv.Server{})
	c := p.dial().ask(rdv.DIAL, "t")
	p.waiting(1)
	_ = c.Close()
	p.waiting(0)
	if st := p.srv.Stats(); st.Gone != 1 {
		t.Errorf("%d gone, want 1", st.Gone)
	}
}

func TestWaiterThatSpeaksIsRefused(t *testing.T) {
	p := serve(t, &rdv.Server{})
	c := p.dial().ask(rdv.DIAL, "t")
	p.waiting(1)
	c.send(strings.Repeat("x", 4096))
	c.wantStatus(http.StatusBadRequest)
	c.wantEnd()
	p.waiting(0)
}

func TestNewcomerReplacesItsOwnConnection(t *testing.T) {
	p := serve(t, &rdv.Server{})
	old := p.dial().ask(rdv.DIAL, "t")
	p.waiting(1)
	d := p.dial().ask(rdv.DIAL, "t")
	old.wantStatus(http.StatusConflict)
	old.wantEnd()
	p.dial().ask(rdv.ACCEPT, "t").wantStatus(http.StatusSwitchingProtocols)
	d.wantStatus(http.StatusSwitchingProtocols)
}

// Who guesses a token cannot throw out who waits with it.
func TestNobodyElseReplacesAWaiter(t *testing.T) {
	p := serve(t, &rdv.Server{})
	victim := p.dial().ask(rdv.ACCEPT, "t")
	p.waiting(1)
	for range 100 {
		c := p.dialFrom("127.0.0.2").ask(rdv.ACCEPT, "t")
		c.wantStatus(http.StatusConflict)
	}
	p.dial().ask(rdv.DIAL, "t").wantStatus(http.StatusSwitchingProtocols)
	victim.wantStatus(http.StatusSwitchingProtocols)
}

// A flood from a few sources leaves the lobby to the others.
func TestFloodOfWaiters(t *testing.T) {
	const perSource, sources = 8, 4
	p := serve(t, &rdv.Server{MaxWaitingPerSource: perSource, MaxWaiting: perSource * (sources + 1)})
	refused := 0
	for i := range 400 {
		c := p.dialFrom(fmt.Sprintf("127.0.0.%d", 2+i%sources)).ask(rdv.ACCEPT, fmt.Sprint("flood", i))
		if i >= perSource*sources {
			c.wantStatus(http.StatusTooManyRequests)
			refused++
		} else {
			p.waiting(i + 1)
		}
	}
	if st := p.srv.Stats(); st.Waiting != perSource*sources || st.Refused[429] != int64(refused) {
		t.Errorf("%d wait and %d were refused, want %d and %d", st.Waiting, st.Refused[429], perSource*sources, refused)
	}
	d, a := p.relayed("honest")
	d.send("hello")
	a.want("hello")
}

func TestFullLobby(t *testing.T) {
	p := serve(t, &rdv.Server{MaxWaiting: 2})
	p.dial().ask(rdv.ACCEPT, "1")
	a := p.dial().ask(rdv.ACCEPT, "2")
	p.waiting(2)
	resp := p.dial().ask(rdv.ACCEPT, "3").wantStatus(http.StatusServiceUnavailable)
	if resp.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	p.dial().ask(rdv.DIAL, "2").wantStatus(http.StatusSwitchingProtocols)
	a.wantStatus(http.StatusSwitchingProtocols)
}

func TestTooManyPairs(t *testing.T) {
	p := serve(t, &rdv.Server{MaxPairs: 1})
	p.relayed("1")
	a := p.dial().ask(rdv.ACCEPT, "2")
	p.waiting(1)
	p.dial().ask(rdv.DIAL, "2").wantStatus(http.StatusServiceUnavailable)
	a.wantStatus(http.StatusServiceUnavailable)
	if st := p.srv.Stats(); st.Pairs != 1 || st.Waiting != 0 {
		t.Errorf("%d pairs and %d waiting, want 1 and 0", st.Pairs, st.Waiting)
	}
}

func TestAccess(t *testing.T) {
	p := serve(t, &rdv.Server{Access: rdv.BearerTokens("s3cret", "other"), MaxRefusals: 3})
	stranger := func(auth string) *caller { return p.dialFrom("127.0.0.2").ask(rdv.DIAL, "t", auth) }
	for _, auth := range []string{"X: y", "Authorization: Bearer wrong", "Authorization: Basic s3cret"} {
		resp := stranger(auth).wantStatus(http.StatusUnauthorized)
		if h := resp.Header.Get("WWW-Authenticate"); h != "Bearer" {
			t.Errorf("WWW-Authenticate %q", h)
		}
	}
	resp := stranger("Authorization: Bearer s3cret").wantStatus(http.StatusTooManyRequests)
	if resp.Header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	if n := p.srv.Stats().Waiting; n != 0 {
		t.Errorf("%d clients wait", n)
	}
	p.dial().ask(rdv.DIAL, "t", "Authorization: bearer s3cret")
	p.waiting(1)
}

func TestAccessHook(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{rdv.ErrUnauthorized, 401},
		{rdv.ErrTooManyRequests, 429},
		{errors.New("not you"), 403},
		{context.DeadlineExceeded, 403}, // fails closed
		{fmt.Errorf("the service is away: %w", rdv.ErrUndecided), 503},
	} {
		p := serve(t, &rdv.Server{Access: func(*http.Request) error { return tt.err }})
		p.dial().ask(rdv.DIAL, "t").wantStatus(tt.want)
	}
}

// TestSetLimits: limits of a server that runs.
func TestSetLimits(t *testing.T) {
	p := serve(t, &rdv.Server{})
	p.dial().ask(rdv.DIAL, "first")
	p.waiting(1)
	p.srv.SetLimits(rdv.Limits{MaxWaiting: 1})
	p.dial().ask(rdv.DIAL, "second").wantStatus(http.StatusServiceUnavailable)
	p.srv.SetLimits(rdv.Limits{MaxWaitingPerSource: 1})
	p.dial().ask(rdv.DIAL, "second").wantStatus(http.StatusTooManyRequests)
	p.srv.SetLimits(rdv.Limits{MaxWaitingPerSource: -1})
	late := p.dial()
	late.ask(rdv.DIAL, "second")
	p.waiting(2)
	p.srv.SetLimits(rdv.Limits{MaxPairs: 1})
	p.dial().ask(rdv.ACCEPT, "first").wantStatus(http.StatusSwitchingProtocols)
	p.dial().ask(rdv.ACCEPT, "second").wantStatus(http.StatusServiceUnavailable)
	late.wantStatus(http.StatusServiceUnavailable)
	waits := p.dial()
	waits.ask(rdv.DIAL, "third")
	p.waiting(1)
	p.srv.SetLimits(rdv.Limits{LobbyTimeout: time.Millisecond})
	waits.wantStatus(http.StatusRequestTimeout)
}

// TestAccessUndecided: when who decides is away, nobody comes in, and nobody is
// taken for a guesser.
func TestAccessUndecided(t *testing.T) {
	err := rdv.ErrUndecided
	p := serve(t, &rdv.Server{MaxRefusals: 3, Access: func(*http.Request) error { return err }})
	stranger := func() *caller { return p.dialFrom("127.0.0.2").ask(rdv.DIAL, "t") }
	for range 10 {
		resp := stranger().wantStatus(http.StatusServiceUnavailable)
		if resp.Header.Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
	}
	if n := p.srv.Stats().Waiting; n != 0 {
		t.Errorf("%d clients wait", n)
	}
	err = nil
	stranger()
	p.waiting(1)
}

func TestObservedAddr(t *testing.T) {
	p := serve(t, &rdv.Server{ObservedAddrFunc: func(r *http.Request) (netip.AddrPort, error) {
		return netip.ParseAddrPort(r.Header.Get("X-Seen"))
	}})
	p.dial().ask(rdv.DIAL, "t").wantStatus(http.StatusBadRequest)
	p.dial().ask(rdv.DIAL, "t", "X-Seen: [::ffff:203.0.113.7]:4000")
	p.waiting(1)
	resp := p.dial().ask(rdv.ACCEPT, "t", "X-Seen: [2001:db8::1]:5000").wantStatus(http.StatusSwitchingProtocols)
	if got := resp.Header.Get("Rdv-Peer-Addrs"); got != "203.0.113.7:4000" {
		t.Errorf("peer addrs %q, want the unmapped address", got)
	}
}

func TestTrustedProxies(t *testing.T) {
	f := rdv.TrustedProxies(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"))
	for _, tt := range []struct {
		name, remote string
		header       http.Header
		want         string // empty: an error
	}{
		{"no proxy", "203.0.113.7:4000", nil, "203.0.113.7:4000"},
		{"forged", "203.0.113.7:4000", http.Header{"X-Forwarded-For": {"192.0.2.1"}}, "203.0.113.7:4000"},
		{"mapped", "[::ffff:203.0.113.7]:4000", nil, "203.0.113.7:4000"},
		{"no port", "10.0.0.1:80", http.Header{"X-Forwarded-For": {"192.0.2.1"}}, "192.0.2.1:0"},
		{"own port", "10.0.0.1:80", http.Header{"X-Forwarded-For": {"192.0.2.1:4711"}}, "192.0.2.1:4711"},
		{"port field", "10.0.0.1:80", http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Port": {"4711"}}, "192.0.2.1:4711"},
		{"the proxy's port", "10.0.0.1:80", http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Port": {"443"}}, "192.0.2.1:0"},
		{"two proxies", "10.0.0.1:80", http.Header{"X-Forwarded-For": {"192.0.2.1, 10.0.0.9"}}, "192.0.2.1:0"},
		{"client lies to proxy", "10.0.0.1:80", http.Header{"X-Forwarded-For": {"198.51.100.1", "192.0.2.1"}}, "192.0.2.1:0"},
		{"IPv6", "[fd00::1]:80", http.Header{"X-Forwarded-For": {"[2001:db8::1]:4711"}}, "[2001:db8::1]:4711"},
		{"IPv6 in brackets", "[fd00::1]:80", http.Header{"X-Forwarded-For": {"[2001:db8::1]"}}, "[2001:db8::1]:0"},
		{"proxy as client", "10.0.0.1:80", http.Header{"X-Forwarded-For": {"10.0.0.2"}}, "10.0.0.2:0"},
		{"nothing", "10.0.0.1:80", nil, ""},
		{"nonsense", "10.0.0.1:80", http.Header{"X-Forwarded-For": {"unknown"}}, ""},
		{"no remote", "@", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := f(&http.Request{RemoteAddr: tt.remote, Header: tt.header})
			if tt.want == "" {
				if err == nil {
					t.Errorf("got %v, want an error", got)
				}
				return
			}
			if err != nil || got != netip.MustParseAddrPort(tt.want) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestShutdown(t *testing.T) {
	ended := make(chan error, 1)
	p := serve(t, &rdv.Server{Handler: handlerFunc(func(ctx context.Context, dc, ac *rdv.Conn) {
		new(rdv.Relayer).Serve(ctx, dc, ac)
		ended <- ctx.Err()
	})})
	waiter := p.dial().ask(rdv.DIAL, "waiter")
	p.waiting(1)
	d, a := p.relayed("t")
	p.srv.Shutdown()
	waiter.wantStatus(http.StatusServiceUnavailable)
	d.wantEnd()
	a.wantEnd()
	for range 2 {
		if err := p.srv.Close(); err != nil {
			t.Error(err)
		}
	}
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context: %v", err)
		}
	default:
		t.Error("Close did not wait for the handler")
	}
	p.dial().ask(rdv.DIAL, "t").wantStatus(http.StatusServiceUnavailable)
}

func TestDrain(t *testing.T) {
	p := serve(t, &rdv.Server{})
	d, a := p.relayed("t")
	waiter := p.dial().ask(rdv.DIAL, "waiter")
	p.waiting(1)
	drained := make(chan error, 1)
	go func() { drained <- p.srv.Drain(t.Context()) }()
	waiter.wantStatus(http.StatusServiceUnavailable)
	p.dial().ask(rdv.DIAL, "late").wantStatus(http.StatusServiceUnavailable)
	d.send("still there")
	a.want("still there")
	select {
	case err := <-drained:
		t.Fatalf("drained before the pair was done: %v", err)
	default:
	}
	_, _ = d.Close(), a.Close()
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestDrainGivesUp(t *testing.T) {
	p := serve(t, &rdv.Server{})
	p.relayed("t")
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if err := p.srv.Drain(ctx); !errors.Is(err, enough) {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestHandlerThatPanics(t *testing.T) {
	p := serve(t, &rdv.Server{Handler: handlerFunc(func(_ context.Context, dc, _ *rdv.Conn) {
		if dc.Token == "bad" {
			panic("bad token")
		}
	})})
	a := p.dial().ask(rdv.ACCEPT, "bad")
	p.waiting(1)
	d := p.dial().ask(rdv.DIAL, "bad")
	d.wantEnd()
	a.wantEnd()
	p.eventually(func() bool { return p.srv.Stats().Panics == 1 }, "panic counted")
	p.dial().ask(rdv.DIAL, "good")
	p.waiting(1)
}

func TestReject(t *testing.T) {
	p := serve(t, &rdv.Server{Handler: handlerFunc(func(_ context.Context, dc, ac *rdv.Conn) {
		_ = new(rdv.Relayer).Reject(dc, ac, http.StatusPaymentRequired, "no money")
	})})
	a := p.dial().ask(rdv.ACCEPT, "t")
	p.waiting(1)
	p.dial().ask(rdv.DIAL, "t").wantStatus(http.StatusPaymentRequired)
	a.wantStatus(http.StatusPaymentRequired)
}

// The handler sees what the documents promise.
func TestServerConn(t *testing.T) {
	type seen struct{ dc, ac *rdv.Conn }
	got := make(chan seen, 1)
	p := serve(t, &rdv.Server{Handler: handlerFunc(func(_ context.Context, dc, ac *rdv.Conn) {
		got <- seen{dc, ac}
		_, _ = dc.Close(), ac.Close()
	})})
	a := p.dial().ask(rdv.ACCEPT, "t?x=y", "X-App: 1", "Rdv-Self-Addrs: 192.0.2.1:4000")
	p.waiting(1)
	d := p.dial().ask(rdv.DIAL, "t")
	s := <-got
	if s.dc.Method != rdv.DIAL || s.ac.Method != rdv.ACCEPT || s.dc.Token != "t" || s.ac.Token != "t" {
		t.Errorf("methods and tokens: %+v %+v", s.dc.Meta, s.ac.Meta)
	}
	if fmt.Sprint(s.ac.SelfAddrs) != "[192.0.2.1:4000]" || s.ac.ObservedAddr.String() != a.LocalAddr().String() {
		t.Errorf("acceptor: %+v", s.ac.Meta)
	}
	if want := fmt.Sprintf("[192.0.2.1:4000 %v]", a.LocalAddr()); fmt.Sprint(s.dc.PeerAddrs) != want {
		t.Errorf("dialer's peer addrs %v, want %s", s.dc.PeerAddrs, want)
	}
	if r := s.ac.Request; r.Header.Get("X-App") != "1" || r.URL.RawQuery != "x=y" || r.Method != rdv.ACCEPT || r.Host != "point" {
		t.Errorf("request %+v", r)
	}
	d.wantEnd()
}

func TestIPv6(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	_ = ln.Close()
	p := serveAt(t, &rdv.Server{}, "[::1]:0")
	d, a := p.relayed("t")
	d.send("hello")
	a.want("hello")
}

// A dual-stack listener sees IPv4 in IPv6's clothes; peers must not.
func TestDualStackUnmaps(t *testing.T) {
	p := serveAt(t, &rdv.Server{}, ":0")
	p.addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.addr.Port())
	p.dial().ask(rdv.ACCEPT, "t")
	p.waiting(1)
	d := p.dial().ask(rdv.DIAL, "t")
	if got := d.wantStatus(http.StatusSwitchingProtocols).Header.Get("Rdv-Observed-Addr"); got != d.LocalAddr().String() {
		t.Errorf("observed %q, want %v", got, d.LocalAddr())
	}
}

// What the application set for the response is in the 101, if it may be.
func TestResponseFields(t *testing.T) {
	srv := &rdv.Server{}
	p := serve(t, srv, func(s *http.Server) {
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-App", "1")
			w.Header().Set("Connection", "close")
			w.Header().Set("Rdv-Peer-Addrs", "192.0.2.66:1")
			w.Header().Set("X-Bad", "a\r\nb")
			srv.ServeHTTP(w, r)
		})
	})
	p.dial().ask(rdv.ACCEPT, "t")
	p.waiting(1)
	h := p.dial().ask(rdv.DIAL, "t").wantStatus(http.StatusSwitchingProtocols).Header
	if h.Get("X-App") != "1" || h.Get("X-Bad") != "" || strings.Contains(h.Get("Rdv-Peer-Addrs"), "66") || len(h["Connection"]) != 1 {
		t.Errorf("header %v", h)
	}
}

// Strangers that stick: in the request, in the lobby, before the pick. What
// they send may come too late on a busy machine: that they go is the same.
func TestStuckConnectionsGo(t *testing.T) {
	const each, limit = 100, 300 * time.Millisecond
	alone := serve(t, &rdv.Server{LobbyTimeout: limit}, func(s *http.Server) { s.ReadHeaderTimeout = limit })
	paired := serve(t, &rdv.Server{Handler: &rdv.Relayer{CommandTimeout: limit}})
	var stuck []*caller
	for i := range each {
		idle, slow, waits := alone.dial(), alone.dial(), alone.dial()
		_, _ = io.WriteString(slow, "DIAL /t HTT")
		_, _ = io.WriteString(waits, "ACCEPT /"+fmt.Sprint(i)+" HTTP/1.1\r\n"+upgrade+"\r\n")
		d, a := paired.pair(fmt.Sprint(i))
		_, _ = io.WriteString(d, "OTHER 192.0.2.1:40")
		stuck = append(stuck, idle, slow, waits, d, a)
	}
	for _, c := range stuck {
		if _, err := io.Copy(io.Discard, c.r); isTimeout(err) { // ends only if the server ends it
			t.Error("a connection is still there")
		}
	}
	if st := alone.srv.Stats(); st.Waiting != 0 {
		t.Errorf("%d still wait", st.Waiting)
	}
	paired.eventually(func() bool { return paired.srv.Stats().Pairs == 0 }, "pairs gone")
}

// Of too many requests under way the oldest go, and honest ones get through.
func TestFloodOfRequests(t *testing.T) {
	const limit = 10
	p := serve(t, &rdv.Server{MaxRequests: limit})
	var flood []*caller
	for range 5 * limit {
		flood = append(flood, p.dial().send("DIAL /t HTTP/1.1\r\n"))
	}
	for _, c := range flood[:4*limit] {
		_, _ = io.Copy(io.Discard, c.r)
	}
	d, a := p.relayed("t")
	d.send("hello")
	a.want("hello")
	if st := p.srv.Stats(); st.Requests > limit || st.Evicted < 4*limit {
		t.Errorf("%d requests, %d evicted", st.Requests, st.Evicted)
	}
}

func TestMaxConns(t *testing.T) {
	p := serve(t, &rdv.Server{MaxConns: 8})
	d, a := p.relayed("t")
	for i := range 5 {
		p.dial().ask(rdv.ACCEPT, fmt.Sprint(i))
		p.waiting(i + 1)
	}
	p.dial().ask(rdv.ACCEPT, "late").wantStatus(http.StatusServiceUnavailable)
	for range 20 {
		p.dial()
	}
	p.dial().ask(rdv.DIAL, "0").wantStatus(http.StatusSwitchingProtocols)
	d.send("hello")
	a.want("hello")
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	p := serve(t, &rdv.Server{Registerer: reg, Handler: &rdv.Relayer{}})
	d, a := p.relayed("t")
	d.send("hello")
	a.want("hello")
	p.dial().send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").wantStatus(426)
	_, _ = d.Close(), a.Close()
	p.eventually(func() bool { return p.srv.Stats().Pairs == 0 }, "pair gone")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"muster_rdv_clients_total matched": 1, "muster_rdv_refused_total 426": 1,
		"muster_rdv_picks_total relay": 1, "muster_rdv_relay_bytes_total": 5, "muster_rdv_waiting": 0, "muster_rdv_pairs": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %v, want %v", name, v, want)
		}
	}
}

// A token opens the door to a peer; who reads logs is not meant to have it.
func TestTokensAreNotLogged(t *testing.T) {
	const token = "correct-horse-battery"
	var log lockedBuffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p := serve(t, &rdv.Server{Logger: logger, Handler: &rdv.Relayer{Logger: logger}})
	d, a := p.relayed(token)
	_, _ = d.Close(), a.Close()
	old := p.dial().ask(rdv.DIAL, token)
	p.waiting(1)
	p.dial().ask(rdv.DIAL, token)
	old.wantStatus(http.StatusConflict)
	p.dialFrom("127.0.0.2").ask(rdv.DIAL, token).wantStatus(http.StatusConflict)
	p.dial().ask(rdv.DIAL, token, "Rdv-Self-Addrs: x").wantStatus(http.StatusBadRequest)
	p.dial().send("DIAL /" + token + "%zz HTTP/1.1\r\n" + upgrade + "\r\n").wantStatus(http.StatusBadRequest)
	_ = p.http.Close()
	_ = p.srv.Close()
	if s := log.String(); strings.Contains(s, token) || !strings.Contains(s, rdv.ShortToken(token)) {
		t.Errorf("log:\n%s", s)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
