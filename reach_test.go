package muster_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/reach/wire"
	"github.com/muster-p2p/muster/rendezvous"
)

// A stage is what a test of Reach needs: an rdv server and hosts.
type stage struct {
	t   *testing.T
	url string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	server := &rdv.Server{}
	web := httptest.NewServer(server)
	t.Cleanup(func() {
		_ = server.Close()
		web.CloseClientConnections()
		web.Close()
	})
	return &stage{t, web.URL + "/"}
}

func (s *stage) host() (host.Host, crypto.PrivKey) {
	s.t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	h, err := muster.NewHost(muster.HostConfig{
		Key: key, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}, ResourceManager: &network.NullResourceManager{},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := h.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return h, key
}

func addrInfo(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// point serves reach and rendezvous.
func (s *stage) point() peer.AddrInfo {
	s.t.Helper()
	h, _ := s.host()
	calls, err := reach.NewServer(h, reach.Config{Servers: []string{s.url}})
	if err != nil {
		s.t.Fatal(err)
	}
	names, err := rendezvous.NewPoint(h, rendezvous.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := errors.Join(calls.Close(), names.Close()); err != nil {
			s.t.Error(err)
		}
	})
	return addrInfo(h)
}

// A reacher is a peer with a Reach.
type reacher struct {
	*muster.Reach
	t      *testing.T
	id     peer.ID
	h      host.Host
	events chan reach.Event
}

func (s *stage) reach(points ...peer.AddrInfo) *reacher {
	s.t.Helper()
	h, key := s.host()
	p := &reacher{t: s.t, id: h.ID(), h: h, events: make(chan reach.Event, 100)}
	r, err := muster.NewReach(h, key, muster.ReachConfig{Points: points, Changed: func(e reach.Event) { p.events <- e }})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := r.Close(); err != nil {
			s.t.Error(err)
		}
	})
	p.Reach = r
	return p
}

// listen listens for a service and waits until n points know.
func (p *reacher) listen(service string, n int, allow ...peer.ID) *muster.Listener {
	p.t.Helper()
	l, err := p.Listen(service, allow)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.Start(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	for range n {
		if e := <-p.events; !e.Parked {
			p.t.Fatalf("not parked: %v", e.Err)
		}
	}
	return l
}

// shortly is a time in which nothing is expected to come.
func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestReach(t *testing.T) {
	s := newStage(t)
	one, two := s.point(), s.point()
	b := s.reach(one, two)
	l := b.listen("echo", 2)
	a := s.reach(one, two)
	conn, err := a.Dial(t.Context(), b.id, "echo")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // a test
	got, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close() //nolint:errcheck // a test
	if got.RemotePeer() != a.id || conn.RemotePeer() != b.id {
		t.Errorf("the ends are %s and %s", got.RemotePeer(), conn.RemotePeer())
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = conn.CloseWrite()
	if in, err := io.ReadAll(got); err != nil || string(in) != "hello" {
		t.Errorf("%q, %v", in, err)
	}
	// One call is one link, though two points passed it on.
	if _, err := l.Accept(shortly(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second link: %v", err)
	}
	if _, err := b.Listen("echo", nil); err == nil {
		t.Error("one service, two listeners")
	}
	if _, err := b.Listen("a b", nil); err == nil {
		t.Error("a service with a blank")
	}
	_ = l.Close()
	if _, err := a.Dial(t.Context(), b.id, "echo"); err == nil {
		t.Error("a closed listener is called")
	}
	_ = b.Close()
	if _, err := b.Listen("echo", nil); !errors.Is(err, muster.ErrReachClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func statusOf(err error) wire.Status {
	if e, ok := errors.AsType[*reach.StatusError](err); ok {
		return e.Status
	}
	return wire.OK
}

// Each service has its own access list, and who is on none learns of none.
func TestReachAccess(t *testing.T) {
	s := newStage(t)
	point := s.point()
	friend, stranger, b := s.reach(point), s.reach(point), s.reach(point)
	b.listen("private", 1, friend.id)
	for service, want := range map[string]wire.Status{"private": wire.Refused, "other": wire.Refused} {
		if _, err := stranger.Dial(t.Context(), b.id, service); statusOf(err) != want {
			t.Errorf("a stranger, %s: %v", service, err)
		}
	}
	if _, err := friend.Dial(t.Context(), b.id, "other"); statusOf(err) != wire.NoService {
		t.Errorf("a friend: %v", err)
	}
	conn, err := friend.Dial(t.Context(), b.id, "private")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if _, err := b.Listen("public", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Dial(t.Context(), b.id, "other"); statusOf(err) != wire.NoService {
		t.Errorf("a stranger who may use something: %v", err)
	}
}

// A liar is a point that passes on what it likes.
type liar struct {
	h       host.Host
	parked  chan network.Stream
	twist   func(*wire.Message)
	replies chan wire.Status
}

func (s *stage) liar(twist func(*wire.Message)) *liar {
	h, _ := s.host()
	l := &liar{h: h, parked: make(chan network.Stream, 1), twist: twist, replies: make(chan wire.Status, 1000)}
	h.SetStreamHandler(reach.ProtocolID, func(st network.Stream) { l.handle(st, s.url) })
	return l
}

func (l *liar) handle(st network.Stream, url string) {
	r := bufio.NewReader(st)
	m, err := readMessage(r)
	switch {
	case err != nil:
		_ = st.Reset()
	case m.Kind == wire.Park:
		_, _ = st.Write(wire.AppendFrame(nil, &wire.Message{Kind: wire.Parked}))
		l.parked <- st
		for {
			m, err := readMessage(r)
			if err != nil {
				return
			}
			if m.Kind == wire.Reply {
				l.replies <- m.Status
			}
		}
	case m.Kind == wire.Invite:
		callee := <-l.parked
		l.parked <- callee
		token := strings.ToLower(rand.Text())
		inv := wire.Message{Kind: wire.Invitation, Call: m.Call, Peer: st.Conn().RemotePeer(), Service: m.Service, Token: token, Servers: []string{url}, Number: 1}
		l.twist(&inv)
		_, _ = callee.Write(wire.AppendFrame(nil, &inv))
		_, _ = st.Write(wire.AppendFrame(nil, &wire.Message{Kind: wire.Answer, Token: token, Servers: []string{url}}))
		_ = st.Close()
	}
}

func readMessage(r *bufio.Reader) (m wire.Message, err error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return m, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return m, err
	}
	return m, wire.Parse(b, &m)
}

// What a lying point can do is prevent a link.
func TestReachLyingPoint(t *testing.T) {
	s := newStage(t)
	for name, twist := range map[string]func(*wire.Message){
		"another service": func(m *wire.Message) { m.Service = "other" },
		"another caller": func(m *wire.Message) {
			m.Peer, _ = peer.Decode("12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stage{t, s.url}
			p := s.liar(twist)
			b, a := s.reach(addrInfo(p.h)), s.reach(addrInfo(p.h))
			l, other := b.listen("echo", 1), b.listen("other", 0)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			conn, err := a.Dial(ctx, b.id, "echo")
			if err == nil {
				_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
				_, err = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}
			if err == nil {
				t.Error("the link works")
			}
			for _, l := range []*muster.Listener{l, other} {
				if conn, err := l.Accept(shortly(t)); err == nil {
					t.Errorf("a link of %s is accepted", conn.RemotePeer())
				}
			}
		})
	}
	t.Run("another peer in the place", func(t *testing.T) {
		s := &stage{t, s.url}
		p := s.liar(func(*wire.Message) {})
		b, a := s.reach(addrInfo(p.h)), s.reach(addrInfo(p.h))
		b.listen("echo", 1)
		_, wanted := s.host()
		id, err := peer.IDFromPrivateKey(wanted)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Dial(t.Context(), id, "echo"); !errors.Is(err, link.ErrIdentity) {
			t.Errorf("%v", err)
		}
	})
}

// A point that invents callers makes a callee wait for a few of them only.
func TestReachInventedCallers(t *testing.T) {
	s := newStage(t)
	p := s.liar(nil)
	b := s.reach(addrInfo(p.h))
	b.listen("echo", 1)
	callee := <-p.parked
	for i := range 200 {
		caller := inventedPeer(t)
		m := wire.Message{
			Kind: wire.Invitation, Call: [wire.CallSize]byte{byte(i), 1}, Peer: caller, Service: "echo", Token: strings.ToLower(rand.Text()),
			Servers: []string{s.url}, Number: uint64(i),
		}
		if _, err := callee.Write(wire.AppendFrame(nil, &m)); err != nil {
			t.Fatal(err)
		}
	}
	waited := 0
	for range 200 {
		if status := <-p.replies; status == wire.OK {
			waited++
		} else if status != wire.Busy {
			t.Fatal(status)
		}
	}
	if waited == 0 || waited > 64 {
		t.Errorf("%d of 200 invented callers are waited for", waited)
	}
}

func inventedPeer(t *testing.T) peer.ID {
	t.Helper()
	id, err := peer.IDFromPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestParseName(t *testing.T) {
	for in, want := range map[string]muster.Name{
		"lab/nas":       {Namespace: "lab", Peer: "nas"},
		"a/b/c":         {Namespace: "a/b", Peer: "c"},
		"lab/größe-1.x": {Namespace: "lab", Peer: "größe-1.x"},
		"/x/nas":        {Namespace: "/x", Peer: "nas"},
	} {
		if got, err := muster.ParseName(in); err != nil || got != want || got.String() != in {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "lab", "/nas", "lab/", "lab/a:b", "lab/a b", "lab/a@b", "lab/a\n", "lab/\xff", "\xff/a", "lab/" + strings.Repeat("x", 64), strings.Repeat("x", 253) + "/nas"} {
		if got, err := muster.ParseName(in); err == nil {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

// fixedFinder is a finder that knows everything already.
type fixedFinder []peer.ID

func (f fixedFinder) FindPeers(context.Context, string, ...discovery.Option) (<-chan peer.AddrInfo, error) {
	ch := make(chan peer.AddrInfo, len(f))
	for _, id := range f {
		ch <- peer.AddrInfo{ID: id}
	}
	close(ch)
	return ch, nil
}

func TestResolve(t *testing.T) {
	s := newStage(t)
	point := s.point()
	a, b, c := s.reach(point), s.reach(point), s.reach(point)
	name := muster.Name{Namespace: "lab", Peer: "nas"}
	if _, err := a.Resolve(t.Context(), name); !errors.Is(err, muster.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	register := func(r *reacher) {
		t.Helper()
		client := rendezvous.NewClient(r.h, rendezvous.ClientConfig{})
		defer client.Close() //nolint:errcheck // cannot fail
		if _, err := client.Register(t.Context(), point.ID, name.String(), 0); err != nil {
			t.Fatal(err)
		}
	}
	register(b)
	if id, err := a.Resolve(t.Context(), name); err != nil || id != b.id {
		t.Errorf("%s, %v", id, err)
	}
	b.listen("echo", 1)
	if conn, err := a.DialName(t.Context(), name.String(), "echo"); err != nil || conn.RemotePeer() != b.id {
		t.Errorf("by name: %v", err)
	} else {
		_ = conn.Close()
	}
	register(c)
	_, err := a.Resolve(t.Context(), name)
	if !errors.Is(err, muster.ErrAmbiguous) || !strings.Contains(err.Error(), b.id.String()) || !strings.Contains(err.Error(), c.id.String()) {
		t.Errorf("two claims: %v", err)
	}
	h, key := s.host()
	for n, want := range []error{muster.ErrNotFound, nil, muster.ErrAmbiguous} {
		r, err := muster.NewReach(h, key, muster.ReachConfig{Finder: fixedFinder{b.id, c.id}[:n]})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Resolve(t.Context(), name); !errors.Is(err, want) {
			t.Errorf("%d found: %v", n, err)
		}
		_ = r.Close()
	}
}
