package rdvtransport

import (
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/link"
)

// muxWait is how long the muxer lets a write or a ping wait: longer than a
// link tries to resume. A link that cannot ends on its own.
const muxWait = link.DefaultResumeWindow + time.Minute

// muxer is go-libp2p's yamux without its own keep-alive, which would end a
// connection that only waits for its next path.
var muxer = func() *yamux.Transport {
	t := *yamux.DefaultTransport
	t.EnableKeepAlive = false
	t.ConnectionWriteTimeout = muxWait
	return &t
}()

// addrs are the addresses of both ends of every connection: both are known by
// their peer IDs only, and an address of a relay is not the peer's.
type addrs struct{}

func (addrs) LocalMultiaddr() ma.Multiaddr  { return Addr() }
func (addrs) RemoteMultiaddr() ma.Multiaddr { return Addr() }

// A conn is a link with many streams in it.
type conn struct {
	network.MuxedConn
	addrs
	transport *Transport
	link      *link.Conn
	scope     network.ConnManagementScope
	done      sync.Once
}

var _ transport.CapableConn = (*conn)(nil)

// Close closes the link and gives its resources back.
func (c *conn) Close() error {
	defer c.done.Do(c.scope.Done)
	return c.MuxedConn.Close()
}

// CloseWithError is Close, and tells the other end a code.
func (c *conn) CloseWithError(code network.ConnErrorCode) error {
	defer c.done.Do(c.scope.Done)
	return c.MuxedConn.CloseWithError(code)
}

// As gives access to the link, for a target of type **link.Conn, and else to
// what the muxer gives access to.
func (c *conn) As(target any) bool {
	if l, ok := target.(**link.Conn); ok {
		*l = c.link
		return true
	}
	return c.MuxedConn.As(target)
}

func (c *conn) LocalPeer() peer.ID  { return c.link.LocalPeer() }
func (c *conn) RemotePeer() peer.ID { return c.link.RemotePeer() }

// RemotePublicKey returns the key if the peer ID holds it, else nil.
func (c *conn) RemotePublicKey() crypto.PubKey {
	key, err := c.RemotePeer().ExtractPublicKey()
	if err != nil {
		return nil
	}
	return key
}

func (c *conn) ConnState() network.ConnectionState {
	return network.ConnectionState{StreamMultiplexer: yamux.ID, Security: libp2ptls.ID, Transport: ProtocolName}
}

func (c *conn) Transport() transport.Transport { return c.transport }

func (c *conn) Scope() network.ConnScope { return c.scope }

func (c *conn) String() string {
	return fmt.Sprintf("<rdv %s <-> %s>", c.LocalPeer(), c.RemotePeer())
}
