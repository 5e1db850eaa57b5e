package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/rendezvous"
)

// maxFound bounds the peers that 'pub' and 'sub' keep connections to because
// they found them: a mesh needs a dozen, and the rest comes by peer exchange.
const maxFound = 32

// findFlags say where 'pub' and 'sub' find peers that are not named.
type findFlags struct {
	points    []string
	ns        string
	bootnodes []string
	discv5    []string // addresses to bind
}

func (f *findFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.ns, "ns", "", "find peers in this rendezvous `NAMESPACE`, and register in it when listening")
	fl.StringArrayVar(&f.points, "point", nil, "`MULTIADDR` of a rendezvous point for --ns; may be repeated")
	fl.StringArrayVar(&f.bootnodes, "bootnode", nil, "find peers by discv5, beginning with this `ENR`; may be repeated")
	fl.StringSliceVar(&f.discv5, "discv5-addr", []string{"0.0.0.0:0"}, "UDP address for discv5, `HOST:PORT`; at most one of each family")
}

func (f *findFlags) any() bool { return f.ns != "" || len(f.bootnodes) > 0 }

// check reports what is wrong with the flags.
func (f *findFlags) check() error {
	if (f.ns == "") != (len(f.points) == 0) {
		return usageError(errors.New("--ns and --point go together"), "name the namespace and a rendezvous point that serves it")
	}
	return nil
}

// identity returns the key of the host: one that a node record can name, where
// discv5 is to lead others to it.
func (f *findFlags) identity(file string) (crypto.PrivKey, error) {
	if len(f.bootnodes) == 0 {
		return hostKey(file)
	}
	key, err := nodeKey(file)
	if err != nil {
		return nil, err
	}
	return crypto.UnmarshalSecp256k1PrivateKey(key.Bytes())
}

// find starts what finds peers on h until ctx ends, and hands each peer to met
// once. It returns a function that waits for the end.
func (f *findFlags) find(ctx context.Context, h host.Host, met func(peer.AddrInfo)) (wait func() error, err error) {
	var mu sync.Mutex
	known := map[peer.ID]bool{h.ID(): true}
	once := func(pi peer.AddrInfo) {
		mu.Lock()
		fresh := !known[pi.ID] && len(known) <= maxFound
		if fresh {
			known[pi.ID] = true
		}
		mu.Unlock()
		if fresh {
			met(pi)
		}
	}
	var ends []func() error
	wait = func() error {
		var errs []error
		for _, end := range ends {
			errs = append(errs, end())
		}
		return errors.Join(errs...)
	}
	if f.ns != "" {
		end, err := f.findByName(ctx, h, once)
		if err != nil {
			return nil, err
		}
		ends = append(ends, end)
	}
	if len(f.bootnodes) > 0 {
		end, err := f.findByRecord(ctx, h, once)
		if err != nil {
			return nil, errors.Join(err, wait())
		}
		ends = append(ends, end)
	}
	return wait, nil
}

// findByName finds peers at rendezvous points.
func (f *findFlags) findByName(ctx context.Context, h host.Host, met func(peer.AddrInfo)) (end func() error, err error) {
	points, err := parsePeers(f.points)
	if err != nil {
		return nil, err
	}
	d := rendezvous.NewDiscovery(h, rendezvous.DiscoveryConfig{Points: points, UnregisterOnCancel: true})
	if len(h.Addrs()) > 0 {
		if _, err := d.Advertise(ctx, f.ns); err != nil {
			return nil, errors.Join(fail(exitUnreachable, fmt.Errorf("register in %q: %w", f.ns, err), "is the rendezvous point running?"), d.Close())
		}
	}
	events, err := d.Watch(ctx, f.ns)
	if err != nil {
		return nil, errors.Join(fail(exitUnreachable, fmt.Errorf("watch %q: %w", f.ns, err), ""), d.Close())
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for ev := range events {
			if ev.Kind == rendezvous.Joined {
				met(ev.AddrInfo)
			}
		}
	})
	return func() error {
		err := d.Close()
		wg.Wait()
		return err
	}, nil
}

// findByRecord finds peers among the nodes of discv5: those whose record has a
// TCP endpoint. It tells the host's own, if it listens on one.
func (f *findFlags) findByRecord(ctx context.Context, h host.Host, met func(peer.AddrInfo)) (end func() error, err error) {
	key, err := enr.PrivateKeyOf(h.Peerstore().PrivKey(h.ID()))
	if err != nil {
		return nil, err
	}
	cfg := discv5.Config{Key: key}
	if cfg.Listen, err = parseAddrPorts("--discv5-addr", f.discv5); err != nil {
		return nil, err
	}
	for _, text := range f.bootnodes {
		r, err := parseRecord(text)
		if err != nil {
			return nil, err
		}
		cfg.Bootnodes = append(cfg.Bootnodes, r)
	}
	for _, a := range h.Addrs() {
		tellTCP(&cfg.Entries, a)
	}
	node, err := discv5.Listen(cfg)
	if err != nil {
		return nil, fail(exitLocal, err, "is the port in use, or the address not of this machine?")
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for r := range node.Nodes(ctx) {
			if pi, ok := tcpPeer(r); ok {
				met(pi)
			}
		}
	})
	return func() error {
		err := node.Close()
		wg.Wait()
		return err
	}, nil
}

// tellTCP enters the port of a listening address into a record.
func tellTCP(c *enr.Content, a ma.Multiaddr) {
	na, err := manet.ToNetAddr(a)
	if err != nil || na.Network() != "tcp" {
		return
	}
	ap, err := netip.ParseAddrPort(na.String())
	switch {
	case err != nil:
	case ap.Addr().Unmap().Is4():
		c.SetTCP(ap.Port())
	default:
		c.SetTCP6(ap.Port())
	}
}

// tcpPeer returns the libp2p peer that a record names, if it has an endpoint.
func tcpPeer(r *enr.Record) (peer.AddrInfo, bool) {
	pi := peer.AddrInfo{ID: r.PeerID()}
	for _, endpoint := range []func() (netip.AddrPort, bool){r.TCPEndpoint4, r.TCPEndpoint6} {
		ap, ok := endpoint()
		if !ok {
			continue
		}
		family := "ip6"
		if ap.Addr().Is4() {
			family = "ip4"
		}
		a, err := ma.NewMultiaddr(fmt.Sprintf("/%s/%s/tcp/%d", family, ap.Addr(), ap.Port()))
		if err == nil {
			pi.Addrs = append(pi.Addrs, a)
		}
	}
	return pi, len(pi.Addrs) > 0
}
