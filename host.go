package muster

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	basicconnmgr "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// Connection-manager watermarks of a host made by [NewHost]: past the high
// mark idle connections are trimmed down to the low one. They leave room for
// thousands of clients of a public point on a small machine, where an idle
// Noise and yamux connection costs some 60 KB.
const (
	DefaultConnsLow  = 3000
	DefaultConnsHigh = 4000
)

// HostConfig configures [NewHost]. Key is required.
type HostConfig struct {
	// Key is the host's identity; its peer ID follows from it.
	Key crypto.PrivKey

	// Listen lists the multiaddrs to listen on; only TCP is supported.
	// If empty, the host only dials.
	Listen []ma.Multiaddr

	// UserAgent is told to others by identify. If empty, "muster" is used.
	UserAgent string

	// ConnsLow and ConnsHigh are the connection manager's watermarks.
	// If ConnsHigh is zero, DefaultConnsLow and DefaultConnsHigh are used.
	ConnsLow, ConnsHigh int

	// MaxConns bounds the connections; past it new ones are refused. If zero,
	// it is an eighth above ConnsHigh, so that trimming comes first.
	MaxConns int

	// Announce, if not empty, are the addresses that others are told in place of
	// those that the host listens on.
	Announce []ma.Multiaddr

	// OwnPorts refuses to listen on a port that another process of this user
	// has. Without it the kernel lets both have it, so that the host can dial
	// from the port that it listens on and NATs know it by that.
	OwnPorts bool

	// ResourceManager limits streams, connections and memory. If nil, limits
	// that fit MaxConns connections are used.
	ResourceManager network.ResourceManager

	// Gater, if not nil, decides which connections may be made.
	Gater connmgr.ConnectionGater
}

// NewHost assembles a small go-libp2p host: swarm, TCP, Noise and TLS 1.3,
// yamux, identify, ping, a resource manager and a connection manager. It has
// no QUIC, WebRTC, DHT, relay or NAT service, which keeps it at half the size
// of libp2p.New in the binary and in memory. The host is listening when
// NewHost returns; the caller closes it, which closes all that it was made of.
func NewHost(cfg HostConfig) (host.Host, error) {
	if cfg.Key == nil {
		return nil, errors.New("muster: a host needs a key")
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "muster"
	}
	if cfg.ConnsHigh == 0 {
		cfg.ConnsLow, cfg.ConnsHigh = DefaultConnsLow, DefaultConnsHigh
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = cfg.ConnsHigh + cfg.ConnsHigh/8
	}
	h, err := assembleHost(cfg)
	if err != nil {
		return nil, fmt.Errorf("muster: new host: %w", err)
	}
	return h, nil
}

// assembleHost is the one place that knows the parts of a host.
func assembleHost(cfg HostConfig) (_ host.Host, err error) {
	id, err := peer.IDFromPrivateKey(cfg.Key)
	if err != nil {
		return nil, err
	}
	var undo []func() error
	defer func() {
		if err == nil {
			return
		}
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()

	ps, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	undo = append(undo, ps.Close)
	if err := errors.Join(ps.AddPrivKey(id, cfg.Key), ps.AddPubKey(id, cfg.Key.GetPublic())); err != nil {
		return nil, err
	}

	rm := cfg.ResourceManager
	if rm == nil {
		if rm, err = newResources(cfg.MaxConns); err != nil {
			return nil, err
		}
	}
	undo = append(undo, rm.Close)
	cm, err := basicconnmgr.NewConnManager(cfg.ConnsLow, cfg.ConnsHigh)
	if err != nil {
		return nil, err
	}
	undo = append(undo, cm.Close)

	bus := eventbus.NewBus()
	sw, err := swarm.NewSwarm(id, ps, bus, swarm.WithResourceManager(rm), swarm.WithConnectionGater(cfg.Gater))
	if err != nil {
		return nil, err
	}
	// The swarm closes the peerstore and the resource manager.
	undo = append(undo[:0], cm.Close, sw.Close)

	up, err := newUpgrader(cfg.Key, rm, cfg.Gater)
	if err != nil {
		return nil, err
	}
	var topts []tcp.Option
	if cfg.OwnPorts {
		topts = append(topts, tcp.DisableReuseport())
	}
	tr, err := tcp.NewTCPTransport(up, rm, nil, topts...)
	if err != nil {
		return nil, err
	}
	if err := sw.AddTransport(tr); err != nil {
		return nil, err
	}
	if err := listenEach(sw, cfg.Listen); err != nil {
		return nil, err
	}
	opts := &basichost.HostOpts{EventBus: bus, ConnManager: cm, UserAgent: cfg.UserAgent, EnablePing: true}
	if len(cfg.Announce) > 0 {
		opts.AddrsFactory = func([]ma.Multiaddr) []ma.Multiaddr { return slices.Clone(cfg.Announce) }
	}
	h, err := basichost.NewHost(sw, opts)
	if err != nil {
		return nil, err
	}
	h.Start()
	return h, nil
}

// listenEach listens on all addresses. One that this machine has not, such as
// of IPv6, is passed over if there is another; a port that is taken is not.
func listenEach(sw *swarm.Swarm, addrs []ma.Multiaddr) error {
	var errs []error
	for _, a := range addrs {
		err := sw.Listen(a)
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
			return err
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 && len(errs) == len(addrs) {
		return errors.Join(errs...)
	}
	return nil
}

// newUpgrader offers Noise before TLS: it is what every peer of the five
// protocols speaks.
func newUpgrader(key crypto.PrivKey, rm network.ResourceManager, gater connmgr.ConnectionGater) (transport.Upgrader, error) {
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	ns, err := noise.New(noise.ID, key, muxers)
	if err != nil {
		return nil, err
	}
	ts, err := tls.New(tls.ID, key, muxers)
	if err != nil {
		return nil, err
	}
	return upgrader.New([]sec.SecureTransport{ns, ts}, muxers, nil, rm, gater)
}
