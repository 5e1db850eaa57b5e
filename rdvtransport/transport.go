package rdvtransport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/link"
)

// Service is what callers of this transport ask for, where links are asked for
// by service.
const Service = "_libp2p"

// Config configures a [Transport]. Dial or Accept is required; without one of
// them the transport does only the other.
type Config struct {
	// Dial connects to a peer for a service, which is Service. The link's other
	// end has proved to be that peer.
	Dial func(ctx context.Context, remote peer.ID, service string) (*link.Conn, error)

	// Accept returns the link of the next peer that has asked for Service. After
	// an error other than its context's the transport stops listening.
	Accept func(ctx context.Context) (*link.Conn, error)

	// ResourceManager limits connections and the memory of streams; it should be
	// the host's. If nil, nothing is limited.
	ResourceManager network.ResourceManager

	// Gater, if not nil, decides which connections may be made; it should be
	// the host's.
	Gater connmgr.ConnectionGater

	// Logger gets debug messages. If nil, there are none.
	Logger *slog.Logger
}

// A Transport makes a libp2p host reach peers by links. Its methods may be
// called by several goroutines at once.
type Transport struct{ cfg Config }

var _ transport.Transport = (*Transport)(nil)

// New returns a transport. It starts nothing: add it to a host's network, and
// have that listen on [Addr].
func New(cfg Config) (*Transport, error) {
	if registered != nil {
		return nil, fmt.Errorf("rdvtransport: %w", registered)
	}
	if cfg.Dial == nil && cfg.Accept == nil {
		return nil, errors.New("rdvtransport: neither Dial nor Accept is given")
	}
	if cfg.ResourceManager == nil {
		cfg.ResourceManager = &network.NullResourceManager{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Transport{cfg: cfg}, nil
}

// String returns "rdv".
func (t *Transport) String() string { return ProtocolName }

// Protocols returns ProtocolCode.
func (t *Transport) Protocols() []int { return []int{ProtocolCode} }

// Proxy is false: a link is end to end, whatever path it takes.
func (t *Transport) Proxy() bool { return false }

// CanDial reports whether addr is [Addr].
func (t *Transport) CanDial(addr ma.Multiaddr) bool { return t.cfg.Dial != nil && isAddr(addr) }

// Dial connects to p. Its error is that of Config.Dial, or of the resource
// manager or the gater.
func (t *Transport) Dial(ctx context.Context, addr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	if !t.CanDial(addr) {
		return nil, fmt.Errorf("rdvtransport: cannot dial %s", addr)
	}
	scope, err := t.cfg.ResourceManager.OpenConnection(network.DirOutbound, true, addr)
	if err != nil {
		return nil, fmt.Errorf("rdvtransport: %w", err)
	}
	c, err := t.dial(ctx, p, scope)
	if err != nil {
		scope.Done()
		return nil, fmt.Errorf("rdvtransport: %w", err)
	}
	return c, nil
}

func (t *Transport) dial(ctx context.Context, p peer.ID, scope network.ConnManagementScope) (*conn, error) {
	if err := scope.SetPeer(p); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := t.cfg.Dial(ctx, p, Service)
	if err != nil {
		return nil, err
	}
	if got := l.RemotePeer(); got != p { // Dial promises that it is not so
		l.Abort("not the peer that was called")
		return nil, fmt.Errorf("called %s and got %s: %w", p, got, link.ErrIdentity)
	}
	return t.upgrade(l, network.DirOutbound, scope)
}

// upgrade makes a connection of a link, or closes the link. The scope is the
// caller's if there is an error.
func (t *Transport) upgrade(l *link.Conn, dir network.Direction, scope network.ConnManagementScope) (*conn, error) {
	c := &conn{transport: t, link: l, scope: scope}
	if t.cfg.Gater != nil && !t.cfg.Gater.InterceptSecured(dir, l.RemotePeer(), c) {
		l.Abort("not allowed")
		return nil, fmt.Errorf("the gater rejects %s", l.RemotePeer())
	}
	muxed, err := muxer.NewConn(l, dir == network.DirInbound, scope.PeerScope())
	if err != nil {
		l.Abort("no resources")
		return nil, err
	}
	c.MuxedConn = muxed
	return c, nil
}

// Listen accepts links, until the listener is closed. The address must be
// [Addr]. Of several listeners any one gets a link.
func (t *Transport) Listen(addr ma.Multiaddr) (transport.Listener, error) {
	if t.cfg.Accept == nil || !isAddr(addr) {
		return nil, fmt.Errorf("rdvtransport: cannot listen on %s", addr)
	}
	l := &listener{transport: t}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l, nil
}
