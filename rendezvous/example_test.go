package rendezvous_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/rendezvous"
)

func exampleHost() host.Host {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	h, err := muster.NewHost(muster.HostConfig{Key: key, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}})
	if err != nil {
		log.Fatal(err)
	}
	return h
}

// end is for defer.
func end(c io.Closer) {
	if err := c.Close(); err != nil {
		log.Print(err)
	}
}

// A point, a peer that registers there, and one that finds it.
func Example() {
	ctx := context.Background()
	server, alice, bob := exampleHost(), exampleHost(), exampleHost()
	defer end(server)
	defer end(alice)
	defer end(bob)

	point, err := rendezvous.NewPoint(server, rendezvous.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer end(point)

	points := rendezvous.DiscoveryConfig{Points: []peer.AddrInfo{{ID: server.ID(), Addrs: server.Addrs()}}}
	a := rendezvous.NewDiscovery(alice, points)
	defer end(a)
	if _, err := a.Advertise(ctx, "lab"); err != nil { // stays registered until ctx ends
		log.Fatal(err)
	}

	b := rendezvous.NewDiscovery(bob, points)
	defer end(b)
	found, err := b.FindPeers(ctx, "lab")
	if err != nil {
		log.Fatal(err)
	}
	for p := range found {
		fmt.Println("found alice:", p.ID == alice.ID())
	}
	// Output: found alice: true
}

// One request to one point.
func ExampleClient_Discover() {
	ctx := context.Background()
	server, h := exampleHost(), exampleHost()
	defer end(server)
	defer end(h)
	point, err := rendezvous.NewPoint(server, rendezvous.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer end(point)
	if err := h.Connect(ctx, peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}); err != nil {
		log.Fatal(err)
	}

	c := rendezvous.NewClient(h, rendezvous.ClientConfig{})
	defer end(c)
	ttl, err := c.Register(ctx, server.ID(), "lab", 0)
	if err != nil {
		log.Fatal(err)
	}
	page, err := c.Discover(ctx, server.ID(), "lab", rendezvous.Query{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ttl, len(page.Records))
	page, err = c.Discover(ctx, server.ID(), "lab", rendezvous.Query{Cookie: page.Cookie}) // what is new
	fmt.Println(len(page.Records), err)
	// Output:
	// 2h0m0s 1
	// 0 <nil>
}
