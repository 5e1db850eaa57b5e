package faults_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/rendezvous"
)

// newHost returns a host of go-libp2p whose connections come from a loopback
// address: each is a source of its own to a point.
func newHost(t testing.TB, from string) host.Host {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	// Noise, as muster's own clients: with TLS go-libp2p refuses a peer whose
	// clock is an hour off.
	h, err := libp2p.New(libp2p.Identity(key), libp2p.Security(noise.ID, noise.New), libp2p.NoListenAddrs, libp2p.DisableRelay(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.Transport(tcp.NewTCPTransport, tcp.WithDialerForAddr(func(ma.Multiaddr) (tcp.ContextDialer, error) { return dialer, nil })))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// A client registers and discovers at one daemon at a time.
type client struct {
	*rendezvous.Client
	h     host.Host
	point peer.ID
}

func newClient(t testing.TB, from string) *client {
	t.Helper()
	h := newHost(t, from)
	own := []ma.Multiaddr{ma.StringCast("/ip4/" + from + "/tcp/4001")}
	c := rendezvous.NewClient(h, rendezvous.ClientConfig{Addrs: func() []ma.Multiaddr { return own }})
	t.Cleanup(func() { _ = c.Close() })
	return &client{Client: c, h: h}
}

// use turns to a daemon, which may have another address than before.
func (c *client) use(t testing.TB, d *daemon) {
	t.Helper()
	info, err := peer.AddrInfoFromString(d.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	_ = c.h.Network().ClosePeer(info.ID)
	c.h.Peerstore().ClearAddrs(info.ID)
	c.h.Peerstore().AddAddrs(info.ID, info.Addrs, time.Hour)
	c.point = info.ID
}

// register registers under a name for an hour.
func (c *client) register(ctx context.Context, ns string) error {
	_, err := c.Register(ctx, c.point, ns, 2*time.Hour)
	return err
}

// has reports whether a client is listed under a name.
func (c *client) has(ctx context.Context, ns string, who ...*client) (bool, error) {
	found := map[peer.ID]bool{}
	_, err := c.Pages(ctx, c.point, ns, rendezvous.Query{}, func(p rendezvous.Page) error {
		for _, r := range p.Records {
			found[r.ID] = true
		}
		return nil
	})
	for _, w := range who {
		if !found[w.h.ID()] {
			return false, err
		}
	}
	return true, err
}

// rdvCall is a client of rdv/1 as the wire sees it.
type rdvCall struct {
	net.Conn
	r *bufio.Reader
}

// askRdv asks for a token.
func askRdv(d *daemon, from, method, token string) (*rdvCall, error) {
	u, err := url.Parse(d.rdv)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	conn, err := dialer.Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "%s %s/%s HTTP/1.1\r\nHost: %s\r\nConnection: upgrade\r\nUpgrade: rdv/1\r\n\r\n",
		method, strings.TrimSuffix(u.Path, "/"), token, u.Host)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &rdvCall{Conn: conn, r: bufio.NewReader(conn)}, nil
}

// status reads the answer.
func (c *rdvCall) status() (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, nil
}

// pair connects two clients over the relay.
func pair(d *daemon, from, token string) (dialer, acceptor *rdvCall, err error) {
	if acceptor, err = askRdv(d, from, "ACCEPT", token); err != nil {
		return nil, nil, err
	}
	if dialer, err = askRdv(d, from, "DIAL", token); err != nil {
		_ = acceptor.Close()
		return nil, nil, err
	}
	fail := func(err error) (*rdvCall, *rdvCall, error) {
		_, _ = dialer.Close(), acceptor.Close()
		return nil, nil, err
	}
	for _, c := range []*rdvCall{dialer, acceptor} {
		if code, err := c.status(); err != nil || code != http.StatusSwitchingProtocols {
			return fail(fmt.Errorf("status %d, %w", code, err))
		}
	}
	if _, err := io.WriteString(dialer, "CONTINUE\n"); err != nil {
		return fail(err)
	}
	return dialer, acceptor, acceptor.hear("CONTINUE\n")
}

func (c *rdvCall) hear(want string) error {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
		return fmt.Errorf("read %q, %w; want %q", got[:n], err, want)
	}
	return nil
}

// talk passes a message each way.
func talk(a, b *rdvCall) error {
	for _, ends := range [][2]*rdvCall{{a, b}, {b, a}} {
		if _, err := io.WriteString(ends[0], "hello"); err != nil {
			return err
		}
		if err := ends[1].hear("hello"); err != nil {
			return err
		}
	}
	return nil
}

// times collects how long things took.
type times struct {
	mu     sync.Mutex
	took   []time.Duration
	failed int
	err    error // the last
}

func (s *times) add(begun time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, time.Since(begun))
	if err != nil {
		s.failed++
		s.err = err
	}
}

func (s *times) quantile(q float64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.took) == 0 {
		return 0
	}
	slices.Sort(s.took)
	return s.took[min(len(s.took)-1, int(q*float64(len(s.took))))].Round(time.Millisecond / 10)
}
