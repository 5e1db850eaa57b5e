package rdvtransport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/core/transport"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	ttransport "github.com/libp2p/go-libp2p/p2p/transport/testsuite"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/rdvtransport"
	"github.com/muster-p2p/muster/rendezvous"
)

// open is a transport whose listener tells its address, as the suite wants it.
type open struct{ *rdvtransport.Transport }

type openListener struct{ transport.Listener }

func (o open) Listen(a ma.Multiaddr) (transport.Listener, error) {
	l, err := o.Transport.Listen(a)
	return openListener{l}, err
}

func (openListener) Multiaddr() ma.Multiaddr { return rdvtransport.Addr() }

// TestSuite is go-libp2p's suite for transports. Left out is
// SubtestStressManyConn10Stream50Msg, which takes every listener for one with
// an address of its own: TestManyConns has its work.
func TestSuite(t *testing.T) {
	w := newWorld(t)
	newTransport := func() (open, peer.ID) {
		p := w.person(newKey(t))
		tr, err := rdvtransport.New(rdvtransport.Config{Dial: p.Dial, Accept: p.Accept})
		if err != nil {
			t.Fatal(err)
		}
		return open{tr}, p.id
	}
	ta, a := newTransport()
	tb, _ := newTransport()
	tests := []ttransport.TransportSubTestFn{
		ttransport.SubtestProtocols, ttransport.SubtestBasic, ttransport.SubtestCancel, ttransport.SubtestPingPong,
		ttransport.SubtestStress1Conn1Stream1Msg, ttransport.SubtestStress1Conn1Stream100Msg, ttransport.SubtestStreamReset,
	}
	if testing.Short() || raceEnabled && os.Getenv("MUSTER_STRESS") == "" {
		t.Log("without the stress tests: they are in the run without -race, and with MUSTER_STRESS=1")
	} else {
		tests = append(tests, ttransport.SubtestStress1Conn100Stream100Msg, ttransport.SubtestStress1Conn1000Stream10Msg,
			ttransport.SubtestStress1Conn100Stream100Msg10MB, ttransport.SubtestStreamOpenStress)
	}
	ttransport.SubtestTransportWithFs(t, ta, tb, rdvtransport.Addr().String(), a, tests)
}

// TestManyConns has many peers talk to one at once.
func TestManyConns(t *testing.T) {
	const peers, streams = 10, 20
	w := newWorld(t)
	b := w.host()
	b.SetStreamHandler("/echo", func(s network.Stream) {
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
	var wg sync.WaitGroup
	defer wg.Wait()
	for range peers {
		a := w.host()
		wg.Go(func() {
			if err := a.Connect(t.Context(), rdvtransport.AddrInfo(b.ID())); err != nil {
				t.Error(err)
				return
			}
			for i := range streams {
				wg.Go(func() {
					s, err := a.NewStream(t.Context(), b.ID(), "/echo")
					if err != nil {
						t.Error(err)
						return
					}
					want := bytes.Repeat([]byte{byte(i)}, 1<<min(i, 16)) // less than a window
					_, _ = s.Write(want)
					_ = s.CloseWrite()
					if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d bytes came back, want %d: %v", len(got), len(want), err)
					}
				})
			}
		})
	}
}

func TestStreams(t *testing.T) {
	w := newWorld(t)
	a, b := w.host(), w.host()
	b.SetStreamHandler("/echo", func(s network.Stream) {
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
	if err := a.Connect(t.Context(), rdvtransport.AddrInfo(b.ID())); err != nil {
		t.Fatal(err)
	}
	s, err := a.NewStream(t.Context(), b.ID(), "/echo")
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("over a link "), 1<<16)
	go func() {
		_, _ = s.Write(want)
		_ = s.CloseWrite()
	}()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back, want %d: %v", len(got), len(want), err)
	}
	c := s.Conn()
	if st := c.ConnState(); st.Transport != "rdv" || st.StreamMultiplexer != "/yamux/1.0.0" || st.Security != "/tls/1.0.0" {
		t.Errorf("state %+v", st)
	}
	if c.RemotePublicKey() == nil || c.RemotePeer() != b.ID() || c.Stat().Limited {
		t.Errorf("conn %+v", c)
	}
	var l *link.Conn
	if !c.As(&l) || l.RemotePeer() != b.ID() {
		t.Errorf("no access to the link")
	}
}

// TestNeverPublished: whoever asks a host for its addresses, by identify, at a
// rendezvous point or itself, never hears of ours, also from hosts that know
// nothing of muster.
func TestNeverPublished(t *testing.T) {
	w := newWorld(t)
	key := newKey(t)
	stock, err := libp2p.New(libp2p.Identity(key), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		t.Fatal(err)
	}
	defer stock.Close() //nolint:errcheck // shutting down
	w.join(stock, key)

	check := func(where string, addrs []ma.Multiaddr) {
		t.Helper()
		for _, a := range addrs {
			for _, c := range a {
				if c.Protocol().Code == rdvtransport.ProtocolCode || c.Protocol().Code == ma.P_CIRCUIT {
					t.Errorf("%s: %s", where, a)
				}
			}
		}
	}
	check("Addrs", stock.Addrs())

	// What goes out with identify, as the host announces it to itself.
	sub, err := stock.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated))
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close() //nolint:errcheck // shutting down
	select {
	case e := <-sub.Out():
		updated := e.(event.EvtLocalAddressesUpdated)
		for _, a := range updated.Current {
			check("event", []ma.Multiaddr{a.Address})
		}
		check("own signed record", recordOf(t, updated.SignedPeerRecord).Addrs)
	case <-time.After(10 * time.Second):
		t.Error("no event")
	}

	// By identify over TCP, to a host that has never heard of the transport.
	other, err := libp2p.New(libp2p.NoListenAddrs, libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close() //nolint:errcheck // shutting down
	known := identified(t, other, func() error {
		return other.Connect(t.Context(), peer.AddrInfo{ID: stock.ID(), Addrs: stock.Addrs()})
	})
	check("identify", known.ListenAddrs)
	rec := recordOf(t, known.SignedPeerRecord)
	if rec.PeerID != stock.ID() || len(rec.Addrs) == 0 {
		t.Errorf("record %+v", rec)
	}
	check("signed record of identify", rec.Addrs)

	// By identify over the transport itself.
	near := w.host()
	known = identified(t, near, func() error { return near.Connect(t.Context(), rdvtransport.AddrInfo(stock.ID())) })
	check("identify over rdv", known.ListenAddrs)
	check("signed record of identify over rdv", recordOf(t, known.SignedPeerRecord).Addrs)

	// By rendezvous: the point is reached over the transport as well.
	point := w.host()
	p, err := rendezvous.NewPoint(point, rendezvous.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close() //nolint:errcheck // shutting down
	stock.Peerstore().AddAddrs(point.ID(), rdvtransport.AddrInfo(point.ID()).Addrs, peerstore.PermanentAddrTTL)
	client := rendezvous.NewClient(stock, rendezvous.ClientConfig{})
	defer client.Close() //nolint:errcheck // shutting down
	if _, err := client.Register(t.Context(), point.ID(), "lab", 0); err != nil {
		t.Fatal(err)
	}
	found, err := client.Discover(t.Context(), point.ID(), "lab", rendezvous.Query{})
	if err != nil || len(found.Records) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	for _, r := range found.Records {
		check("rendezvous", r.Addrs)
		e, err := record.UnmarshalEnvelope(r.Record)
		if err != nil {
			t.Fatal(err)
		}
		check("signed record of rendezvous", recordOf(t, e).Addrs)
	}
}

func recordOf(t *testing.T, e *record.Envelope) *peer.PeerRecord {
	t.Helper()
	if e == nil {
		t.Fatal("no signed record")
	}
	rec, err := e.Record()
	if err != nil {
		t.Fatal(err)
	}
	return rec.(*peer.PeerRecord)
}

// identified returns what h learns by identify when it does connect.
func identified(t *testing.T, h interface {
	EventBus() event.Bus
}, connect func() error,
) event.EvtPeerIdentificationCompleted {
	t.Helper()
	sub, err := h.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close() //nolint:errcheck // shutting down
	if err := connect(); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-sub.Out():
		return e.(event.EvtPeerIdentificationCompleted)
	case <-time.After(10 * time.Second):
		t.Fatal("not identified")
		panic("unreachable")
	}
}

// TestResources: a connection is counted while it is open, for its peer, and
// one too many is refused at either end.
func TestResources(t *testing.T) {
	w := newWorld(t)
	limits := rcmgr.InfiniteLimits.ToPartialLimitConfig()
	limits.System.Conns, limits.System.ConnsInbound, limits.System.ConnsOutbound = 1, 1, 1
	newManager := func() network.ResourceManager {
		rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Build(rcmgr.InfiniteLimits)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = rm.Close() })
		return rm
	}
	conns := func(rm network.ResourceManager, p peer.ID) (system, ofPeer int) {
		_ = rm.ViewSystem(func(s network.ResourceScope) error {
			system = s.Stat().NumConnsInbound + s.Stat().NumConnsOutbound
			return nil
		})
		_ = rm.ViewPeer(p, func(s network.PeerScope) error {
			ofPeer = s.Stat().NumConnsInbound + s.Stat().NumConnsOutbound
			return nil
		})
		return system, ofPeer
	}
	rma, rmb, rmc := newManager(), newManager(), newManager()
	newTransport := func(rm network.ResourceManager) (*rdvtransport.Transport, peer.ID) {
		p := w.person(newKey(t))
		tr, err := rdvtransport.New(rdvtransport.Config{Dial: p.Dial, Accept: p.Accept, ResourceManager: rm})
		if err != nil {
			t.Fatal(err)
		}
		return tr, p.id
	}
	ta, a := newTransport(rma)
	tb, b := newTransport(rmb)
	tc, _ := newTransport(rmc)
	l, err := tb.Listen(rdvtransport.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // shutting down
	accepted := make(chan transport.CapableConn, 2)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	ca, err := ta.Dial(t.Context(), rdvtransport.Addr(), b)
	if err != nil {
		t.Fatal(err)
	}
	cb := <-accepted
	for _, c := range []struct {
		rm network.ResourceManager
		p  peer.ID
	}{{rma, b}, {rmb, a}} {
		if s, p := conns(c.rm, c.p); s != 1 || p != 1 {
			t.Errorf("%d connections, %d of the peer", s, p)
		}
	}
	if _, err := ta.Dial(t.Context(), rdvtransport.Addr(), b); err == nil {
		t.Error("the dialer's limit is not obeyed")
	}
	// The other end may only show it by closing the link.
	if c, err := tc.Dial(t.Context(), rdvtransport.Addr(), b); err == nil {
		if _, err := c.AcceptStream(); err == nil {
			t.Error("the listener's limit is not obeyed")
		}
		_ = c.Close()
	}
	_ = ca.Close()
	_ = ca.Close()
	_ = cb.Close()
	for _, rm := range []network.ResourceManager{rma, rmb, rmc} {
		if s, _ := conns(rm, a); s != 0 {
			t.Errorf("%d connections after Close", s)
		}
	}
	_ = l.Close()
	if _, open := <-accepted; open {
		t.Error("a connection of a third peer")
	}
}

func TestDialErrors(t *testing.T) {
	w := newWorld(t)
	p := w.person(newKey(t))
	liar := w.person(newKey(t))
	tr, err := rdvtransport.New(rdvtransport.Config{Dial: func(ctx context.Context, remote peer.ID, service string) (*link.Conn, error) {
		if remote == liar.id {
			return nil, fmt.Errorf("somebody else: %w", link.ErrIdentity)
		}
		return p.Dial(ctx, remote, service)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Dial(t.Context(), rdvtransport.Addr(), liar.id); !errors.Is(err, link.ErrIdentity) {
		t.Errorf("wrong identity: %v", err)
	}
	if _, err := tr.Dial(t.Context(), rdvtransport.Addr(), peer.ID("nobody")); err == nil || !strings.Contains(err.Error(), "nobody knows") {
		t.Errorf("unknown peer: %v", err)
	}
	for _, a := range []string{"/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1/rdv", "/rdv/rdv", "/p2p-circuit"} {
		if tr.CanDial(ma.StringCast(a)) {
			t.Errorf("can dial %s", a)
		}
		if _, err := tr.Dial(t.Context(), ma.StringCast(a), p.id); err == nil {
			t.Errorf("dialed %s", a)
		}
	}
	if _, err := tr.Listen(rdvtransport.Addr()); err == nil {
		t.Error("listens without Accept")
	}
	if _, err := rdvtransport.New(rdvtransport.Config{}); err == nil {
		t.Error("a transport that does nothing")
	}
}
