package link_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/rdv"
)

// A hub is a network in front of a server, of which every cable can be pulled.
type hub struct {
	ln net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
	down  bool // nobody gets through
	wg    sync.WaitGroup
}

func newHub(t testing.TB, server string) *hub {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{ln: ln, to: u.Host}
	h.wg.Go(h.serve)
	t.Cleanup(func() {
		ln.Close() //nolint:errcheck // the test is over
		h.cut()
		h.wg.Wait()
	})
	return h
}

func (h *hub) url() string { return "http://" + h.ln.Addr().String() }

func (h *hub) serve() {
	for {
		in, err := h.ln.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		out, err := net.Dial("tcp", h.to)
		if err != nil || h.down {
			in.Close() //nolint:errcheck // nobody gets through
			h.mu.Unlock()
			continue
		}
		h.conns = append(h.conns, in, out)
		h.mu.Unlock()
		for _, c := range [][2]net.Conn{{in, out}, {out, in}} {
			h.wg.Go(func() {
				io.Copy(c[0], c[1])              //nolint:errcheck // ends with the connection
				c[0].(*net.TCPConn).CloseWrite() //nolint:errcheck // may be closed
			})
		}
	}
}

// cut closes every connection.
func (h *hub) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		c.Close() //nolint:errcheck // cut
	}
	h.conns = nil
}

func (h *hub) setDown(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// TestResumes: a transfer goes on where it was, however often the relay dies.
func TestResumes(t *testing.T) {
	t.Parallel()
	hub := newHub(t, newServer(t))
	cfg := link.Config{Paths: link.RelayOnly}
	dial, accept := pair(t, newEndpoint(t, cfg), newEndpoint(t, cfg), hub.url())
	data := make([]byte, 8<<20)
	rand.Read(data)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := dial.Write(data); err != nil {
			t.Error(err)
		}
		if err := dial.Close(); err != nil {
			t.Error(err)
		}
	})
	got := make([]byte, 0, len(data))
	for i := range 5 {
		part := make([]byte, len(data)/5-i)
		if _, err := io.ReadFull(accept, part); err != nil {
			t.Fatal(err)
		}
		got = append(got, part...)
		if i < 4 {
			hub.setDown(i == 2)
			hub.cut()
			if i == 2 {
				time.AfterFunc(200*time.Millisecond, func() { hub.setDown(false) })
			}
		}
	}
	rest, err := io.ReadAll(accept)
	if err != nil {
		t.Error(err)
	}
	if got = append(got, rest...); !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, or others", len(got), len(data))
	}
	wg.Wait()
	if s := accept.Stats(); s.Resumes == 0 {
		t.Errorf("%+v", s)
	}
	accept.Close() //nolint:errcheck // the peer has closed
}

// TestResumesByAnotherServer: the server that introduced the peers is gone for
// good.
func TestResumesByAnotherServer(t *testing.T) {
	t.Parallel()
	one, two := newHub(t, newServer(t)), newHub(t, newServer(t))
	two.setDown(true) // at first
	cfg := link.Config{Paths: link.RelayOnly}
	dial, accept := pair(t, newEndpoint(t, cfg), newEndpoint(t, cfg), one.url(), two.url())
	two.setDown(false)
	one.setDown(true)
	one.cut()
	exchange(t, dial, accept, 1<<20)
	dial.Close()   //nolint:errcheck // the test is over
	accept.Close() //nolint:errcheck // the test is over
}

// TestLost: after the resume window, a clean error.
func TestLost(t *testing.T) {
	t.Parallel()
	hub := newHub(t, newServer(t))
	cfg := link.Config{Paths: link.RelayOnly, ResumeWindow: 300 * time.Millisecond}
	dial, accept := pair(t, newEndpoint(t, cfg), newEndpoint(t, cfg), hub.url())
	if err := dial.Confirmed(t.Context()); err != nil {
		t.Fatal(err)
	}
	hub.setDown(true)
	hub.cut()
	for _, c := range []*link.Conn{dial, accept} {
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, link.ErrLost) {
			t.Errorf("read %d, %v", n, err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, link.ErrLost) {
			t.Errorf("write: %v", err)
		}
		if err := c.Close(); !errors.Is(err, link.ErrLost) {
			t.Errorf("close: %v", err)
		}
	}
}

// accepts runs Accept until the test ends, and counts what comes through.
func accepts(t *testing.T, e *link.Endpoint, m link.Meeting, allow func(peer.ID) error) (links func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	n := 0
	wg.Go(func() {
		for {
			c, err := e.Accept(ctx, m, allow)
			if err != nil {
				return
			}
			n++
			c.Abort("the test is over")
		}
	})
	t.Cleanup(cancel)
	return func() int { cancel(); wg.Wait(); return n }
}

// TestWrongPeer: somebody else has the token. Nothing of the application goes
// to them.
func TestWrongPeer(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	a, mallory, bob := newEndpoint(t, link.Config{}), newEndpoint(t, link.Config{}), newEndpoint(t, link.Config{})
	m := link.Meeting{Servers: []string{server}, Token: "known-to-mallory"}
	links := accepts(t, mallory, m, nil)
	c, err := a.Dial(t.Context(), bob.ID(), m)
	if !errors.Is(err, link.ErrIdentity) || c != nil {
		t.Errorf("%v, %v", c, err)
	}
	if n := links(); n != 0 {
		t.Errorf("mallory has %d links", n)
	}
}

// TestNotAllowed: the callee's list decides, and the caller is told.
func TestNotAllowed(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	a, b := newEndpoint(t, link.Config{}), newEndpoint(t, link.Config{})
	m := link.Meeting{Servers: []string{server}, Token: "not-for-everyone"}
	links := accepts(t, b, m, func(id peer.ID) error {
		if id == a.ID() {
			return errors.New("not on the list")
		}
		return nil
	})
	c, err := a.Dial(t.Context(), b.ID(), m)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Confirmed(t.Context()); !errors.Is(err, link.ErrRefused) || !strings.Contains(err.Error(), "not on the list") {
		t.Errorf("confirmed: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, link.ErrRefused) {
		t.Errorf("read: %v", err)
	}
	c.Close() //nolint:errcheck // refused
	if n := links(); n != 0 {
		t.Errorf("%d links", n)
	}
}

// An evil relay does something to what the dialer or the acceptor sends.
type evil struct {
	relayer rdv.Relayer
	do      func(dc, ac net.Conn)
}

func (e *evil) Serve(ctx context.Context, dc, ac *rdv.Conn) {
	defer dc.Close() //nolint:errcheck // done
	defer ac.Close() //nolint:errcheck // done
	if e.relayer.Continue(ctx, dc, ac) != nil {
		return
	}
	defer context.AfterFunc(ctx, func() {
		dc.Close() //nolint:errcheck // done
		ac.Close() //nolint:errcheck // done
	})()
	e.do(dc, ac)
}

// pumps copies both ways, through the given changes.
func pumps(dc, ac net.Conn, change func(n int, b []byte) []byte) {
	var wg sync.WaitGroup
	for _, c := range [][2]net.Conn{{dc, ac}, {ac, dc}} {
		wg.Go(func() {
			buf := make([]byte, 4096)
			for sum := 0; ; {
				n, err := c[0].Read(buf)
				if _, werr := c[1].Write(change(sum, buf[:n])); err != nil || werr != nil {
					dc.Close() //nolint:errcheck // done
					ac.Close() //nolint:errcheck // done
					return
				}
				sum += n
			}
		})
	}
	wg.Wait()
}

// TestEvilRelay: whatever a relay does, the application reads what was written
// or an error.
func TestEvilRelay(t *testing.T) {
	t.Parallel()
	changes := map[string]func(n int, b []byte) []byte{
		"flips a byte": func(n int, b []byte) []byte {
			if n > 20_000 && len(b) > 0 {
				b[len(b)/2] ^= 1
			}
			return b
		},
		"drops bytes": func(n int, b []byte) []byte {
			if n > 20_000 {
				return b[:len(b)/2]
			}
			return b
		},
		"says it twice": func(n int, b []byte) []byte {
			if n > 20_000 {
				return append(bytes.Clone(b), b...)
			}
			return b
		},
		"flips in the handshake": func(n int, b []byte) []byte {
			if n < 1000 && len(b) > 100 {
				b[90] ^= 1
			}
			return b
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &evil{do: func(dc, ac net.Conn) { pumps(dc, ac, change) }}
			s := &rdv.Server{Handler: e}
			s.Start()
			h := httptest.NewServer(s)
			defer h.Close()
			defer s.Close() //nolint:errcheck // the test is over
			cfg := link.Config{Paths: link.RelayOnly, ResumeWindow: 500 * time.Millisecond, Linger: time.Second}
			a, b := newEndpoint(t, cfg), newEndpoint(t, cfg)
			m := link.Meeting{Servers: []string{h.URL}, Token: "evil"}
			data := make([]byte, 100_000)
			rand.Read(data)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := b.Accept(ctx, m, nil)
				if err != nil {
					return
				}
				defer c.Close() //nolint:errcheck // broken anyhow
				got, err := io.ReadAll(c)
				if !bytes.HasPrefix(data, got) || err == nil && len(got) != len(data) {
					t.Errorf("read %d bytes of %d, or others: %v", len(got), len(data), err)
				}
			}()
			if c, err := a.Dial(ctx, b.ID(), m); err == nil {
				c.Write(data) //nolint:errcheck // may fail
				c.Close()     //nolint:errcheck // may fail
			}
			<-done
		})
	}
}

// TestRelayInTheMiddle: a relay that ends the handshakes itself is not the
// peer, and sees nothing.
func TestRelayInTheMiddle(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := 0
	mallory := newEndpoint(t, link.Config{})
	e := &evil{do: func(dc, _ net.Conn) {
		n, err := mallory.TerminateTLS(dc)
		mu.Lock()
		defer mu.Unlock()
		if seen += n; err == nil {
			t.Error("handshake with the relay succeeded")
		}
	}}
	s := &rdv.Server{Handler: e}
	s.Start()
	h := httptest.NewServer(s)
	defer h.Close()
	defer s.Close() //nolint:errcheck // the test is over
	cfg := link.Config{Paths: link.RelayOnly}
	a, b := newEndpoint(t, cfg), newEndpoint(t, cfg)
	m := link.Meeting{Servers: []string{h.URL}, Token: "middle"}
	links := accepts(t, b, m, nil)
	if _, err := a.Dial(t.Context(), b.ID(), m); !errors.Is(err, link.ErrIdentity) {
		t.Errorf("dial: %v", err)
	}
	if n := links(); n != 0 {
		t.Errorf("%d links", n)
	}
	mu.Lock()
	defer mu.Unlock()
	if seen != 0 {
		t.Errorf("the relay saw %d bytes", seen)
	}
}
