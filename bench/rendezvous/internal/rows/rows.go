// Package rows says what the points under test are filled with, makes the
// hosts of the benchmark, and prints what its driver waits for.
package rows

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// PerNamespace is how many peers are registered under each name: a page of
// the largest size that the specification knows.
const PerNamespace = 1000

// TTL is the lifetime of every row, in seconds.
const TTL = 7200

// Namespace is the name of the i-th thousand of rows.
func Namespace(i int) string { return fmt.Sprintf("namespace-%04d", i) }

// Peer is the i-th of the peers that rows are made of; each is in every
// namespace.
func Peer(i int) (crypto.PrivKey, peer.ID, error) {
	seed := sha256.Sum256(fmt.Appendf(nil, "peer %d", i))
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		return nil, "", err
	}
	id, err := peer.IDFromPrivateKey(key)
	return key, id, err
}

// Addrs are what every peer registers: three, as hosts in the wild have.
func Addrs() []ma.Multiaddr {
	return []ma.Multiaddr{
		ma.StringCast("/ip4/203.0.113.7/tcp/4001"),
		ma.StringCast("/ip4/203.0.113.7/udp/4001/quic-v1"),
		ma.StringCast("/ip4/10.0.0.7/tcp/4001"),
	}
}

// NewHost makes a host on TCP loopback with Noise and yamux and no limits; it
// listens if asked to.
func NewHost(listen bool) (host.Host, error) {
	opts := []libp2p.Option{
		libp2p.NoListenAddrs,
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
	}
	if listen {
		opts[0] = libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0")
	}
	return libp2p.New(opts...)
}

// Ready is what a point prints once it is filled and serves.
type Ready struct {
	Addr string // with /p2p/ID
	Heap int64  // bytes of live heap that the rows added; 0 if they are elsewhere
}

// Serve tells the driver that h serves, and waits until it closes stdin.
func Serve(h host.Host, heap int64) error {
	r := Ready{Addr: h.Addrs()[0].String() + "/p2p/" + h.ID().String(), Heap: heap}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// Heap is the live heap after a collection.
func Heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
