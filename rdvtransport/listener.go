package rdvtransport

import (
	"context"
	"errors"
	"net"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/link"
)

// A listener turns the links of callers into connections of the host.
type listener struct {
	transport *Transport
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
}

// Accept returns the next connection that resource manager and gater let in.
func (l *listener) Accept() (transport.CapableConn, error) {
	t := l.transport
	for {
		in, err := t.cfg.Accept(l.ctx)
		switch {
		case l.ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			if err == nil {
				in.Abort("closing")
			}
			return nil, transport.ErrListenerClosed
		case err != nil:
			return nil, err
		}
		c, err := l.admit(in)
		if err == nil {
			return c, nil
		}
		t.cfg.Logger.Debug("a caller is turned away", "peer", in.RemotePeer(), "err", err)
	}
}

// admit makes a connection of a caller's link, or closes it.
func (l *listener) admit(in *link.Conn) (*conn, error) {
	t := l.transport
	if t.cfg.Gater != nil && !t.cfg.Gater.InterceptAccept(addrs{}) {
		in.Abort("not allowed")
		return nil, errors.New("the gater rejects it")
	}
	scope, err := t.cfg.ResourceManager.OpenConnection(network.DirInbound, true, Addr())
	if err != nil {
		in.Abort("busy")
		return nil, err
	}
	if err = scope.SetPeer(in.RemotePeer()); err != nil {
		in.Abort("busy")
		scope.Done()
		return nil, err
	}
	c, err := t.upgrade(in, network.DirInbound, scope)
	if err != nil {
		scope.Done()
		return nil, err
	}
	return c, nil
}

// Close stops listening. Connections that were accepted stay.
func (l *listener) Close() error {
	l.cancel()
	return nil
}

// Addr returns [Addr] as a net.Addr.
func (l *listener) Addr() net.Addr { return netAddr{} }

// Multiaddr returns an address that hosts do not publish; see the package
// comment.
func (l *listener) Multiaddr() ma.Multiaddr { return circuit }

type netAddr struct{}

func (netAddr) Network() string { return ProtocolName }
func (netAddr) String() string  { return "/" + ProtocolName }
