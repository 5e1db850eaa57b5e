// Command peer-libp2p is a pipe between two peers by go-libp2p as it ships: circuit
// relay v2 with its limits lifted, and direct connections by DCUtR.
//
//	peer-libp2p serve [:8080]        the relay: TCP, WebSocket and QUIC on one port
//	peer-libp2p accept URL TOKEN     hold a reservation, and wait for the dialler
//	peer-libp2p dial URL TOKEN       connect through the relay
//
// What the two sides need to know of each other is derived from the token, so
// neither signalling nor a look-up costs time. The pipe is the first stream that
// can be had. When a direct connection appears the dialler opens a second stream
// on it at once, and the acceptor says when its first byte came; libp2p does not
// move streams, so an application would have to go on there by itself.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/observedaddrs"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	pipeProtocol   = "/lab/pipe/1"
	directProtocol = "/lab/direct/1"
	relaySeed      = "the relay"
)

func main() {
	log.SetFlags(0)
	// The laboratory has one server, so no address is seen by four peers.
	observedaddrs.ActivationThresh = 1
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, args[1])
	case len(args) == 3 && args[0] == "accept":
		return accept(ctx, args[1], args[2])
	case len(args) == 3 && args[0] == "dial":
		return dial(ctx, args[1], args[2])
	}
	return errors.New("usage: peer-libp2p serve [:PORT] | accept URL TOKEN | dial URL TOKEN")
}

// key is the same in every process that is given the same seed.
func key(seed string) (crypto.PrivKey, peer.ID, error) {
	sum := sha256.Sum256([]byte(seed))
	priv, _, err := crypto.GenerateEd25519Key(strings.NewReader(string(sum[:])))
	if err != nil {
		return nil, "", err
	}
	id, err := peer.IDFromPrivateKey(priv)
	return priv, id, err
}

func serve(ctx context.Context, listen string) error {
	priv, id, err := key(relaySeed)
	if err != nil {
		return err
	}
	port := strings.TrimPrefix(listen, ":")
	var addrs []string
	for _, ip := range []string{"/ip4/0.0.0.0", "/ip6/::"} {
		addrs = append(addrs, ip+"/tcp/"+port, ip+"/tcp/"+port+"/ws", ip+"/udp/"+port+"/quic-v1")
	}
	many := relay.DefaultResources()
	many.Limit = nil
	many.MaxReservationsPerIP, many.MaxReservationsPerASN = 1024, 1024
	h, err := libp2p.New(
		libp2p.Identity(priv), libp2p.ListenAddrStrings(addrs...), libp2p.ShareTCPListener(),
		libp2p.ForceReachabilityPublic(), libp2p.EnableRelayService(relay.WithResources(many)),
		libp2p.ResourceManager(&network.NullResourceManager{}),
	)
	if err != nil {
		return err
	}
	defer h.Close()
	log.Print("relay ", id, " on ", h.Addrs())
	<-ctx.Done()
	return nil
}

// newPeer is a peer behind a NAT, for all it knows, and the relay's addresses.
func newPeer(seed, server string) (host.Host, peer.AddrInfo, error) {
	info, err := relayInfo(server)
	if err != nil {
		return nil, info, err
	}
	priv, _, err := key(seed)
	if err != nil {
		return nil, info, err
	}
	h, err := libp2p.New(
		libp2p.Identity(priv),
		libp2p.ListenAddrStrings("/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/tcp/0", "/ip6/::/udp/0/quic-v1"),
		libp2p.ForceReachabilityPrivate(), libp2p.EnableHolePunching(),
	)
	return h, info, err
}

func relayInfo(server string) (peer.AddrInfo, error) {
	u, err := url.Parse(server)
	if err != nil {
		return peer.AddrInfo{}, err
	}
	_, id, err := key(relaySeed)
	if err != nil {
		return peer.AddrInfo{}, err
	}
	ip := "/ip4/" + u.Hostname()
	if strings.Contains(u.Hostname(), ":") {
		ip = "/ip6/" + u.Hostname()
	}
	info := peer.AddrInfo{ID: id}
	tails := []string{"/udp/%s/quic-v1", "/tcp/%s"}
	if os.Getenv("HTTP_PROXY") != "" {
		// WebSocket alone goes through proxies, and is dropped where TCP has the same address.
		tails = []string{"/tcp/%s/ws"}
	}
	for _, tail := range tails {
		addr, err := ma.NewMultiaddr(ip + fmt.Sprintf(tail, u.Port()))
		if err != nil {
			return info, err
		}
		info.Addrs = append(info.Addrs, addr)
	}
	return info, nil
}

func relayed(c network.Conn) bool {
	_, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

// over says what a connection runs on: "direct" or "relay", and the address.
func over(c network.Conn) (path, addr string) {
	if relayed(c) {
		return "relay", ""
	}
	var names []string
	for _, p := range c.RemoteMultiaddr().Protocols() {
		names = append(names, p.Name)
	}
	return "direct", strings.Join(names, "/")
}

// closeSoon ends the connections so that the relay notices, within the time
// that the probe leaves.
func closeSoon(h host.Host) {
	done := make(chan struct{})
	go func() { defer close(done); h.Close() }()
	select {
	case <-done:
	case <-time.After(150 * time.Millisecond):
	}
}
