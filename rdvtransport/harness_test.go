package rdvtransport_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"go.uber.org/goleak"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/rdvtransport"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("internal/poll.runtime_pollWait")) // idle HTTP connections of httptest
}

// A world has an rdv server and invites its peers to it, as a point would.
type world struct {
	t      testing.TB
	server string

	mu    sync.Mutex
	peers map[peer.ID]chan link.Meeting
}

func newWorld(t testing.TB) *world {
	t.Helper()
	s := &rdv.Server{}
	s.Start()
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close() //nolint:errcheck // shutting down
		h.Close()
	})
	return &world{t: t, server: h.URL, peers: map[peer.ID]chan link.Meeting{}}
}

func newKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A person is a peer of a world: its Dial and Accept are those of a Config.
type person struct {
	w        *world
	id       peer.ID
	endpoint *link.Endpoint
	invited  chan link.Meeting
}

func (w *world) person(key crypto.PrivKey) *person {
	w.t.Helper()
	e, err := link.New(link.Config{Key: key, Linger: time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	p := &person{w: w, id: e.ID(), endpoint: e, invited: make(chan link.Meeting, 64)}
	w.mu.Lock()
	w.peers[p.id] = p.invited
	w.mu.Unlock()
	w.t.Cleanup(func() { e.Close() }) //nolint:errcheck // always nil
	return p
}

func (p *person) Dial(ctx context.Context, remote peer.ID, service string) (*link.Conn, error) {
	if service != rdvtransport.Service {
		return nil, fmt.Errorf("service %q", service)
	}
	p.w.mu.Lock()
	invited := p.w.peers[remote]
	p.w.mu.Unlock()
	if invited == nil {
		return nil, errors.New("nobody knows that peer")
	}
	m := link.Meeting{Servers: []string{p.w.server}, Token: rand.Text()}
	invited <- m
	return p.endpoint.Dial(ctx, remote, m)
}

func (p *person) Accept(ctx context.Context) (*link.Conn, error) {
	// One meeting at a time would do for a person; the stress tests of libp2p
	// dial a hundred times at once.
	select {
	case m := <-p.invited:
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		return p.endpoint.Accept(ctx, m, nil)
	case <-ctx.Done():
		return nil, net.ErrClosed
	}
}

// host is a host that has no other transport that reaches anybody.
func (w *world) host() host.Host {
	w.t.Helper()
	key := newKey(w.t)
	h, err := muster.NewHost(muster.HostConfig{Key: key})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { h.Close() }) //nolint:errcheck // shutting down
	w.join(h, key)
	return h
}

// join gives h the transport.
func (w *world) join(h host.Host, key crypto.PrivKey) {
	w.t.Helper()
	p := w.person(key)
	tr, err := rdvtransport.New(rdvtransport.Config{
		Dial: p.Dial, Accept: p.Accept, ResourceManager: h.Network().ResourceManager(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := h.Network().(transport.TransportNetwork).AddTransport(tr); err != nil {
		w.t.Fatal(err)
	}
	if err := h.Network().Listen(rdvtransport.Addr()); err != nil {
		w.t.Fatal(err)
	}
}
