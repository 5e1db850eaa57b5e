package muster_test

import (
	"context"
	"fmt"
	"log"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster"
)

// A point in a program: others find each other by it, and are relayed for with
// a token.
func ExampleNew_point() {
	point, err := muster.New(muster.Config{
		Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")},
		Point:  &muster.PointConfig{HTTP: "127.0.0.1:0"},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := point.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	defer func() { _ = point.Close() }()
	fmt.Println(len(point.Addrs()), "address,", len(point.Point.URLs()), "rdv server, relay", point.Point.Gate().Policy().Relay)
	// Output: 1 address, 1 rdv server, relay closed
}

// Two peers, of which one finds the other by name.
func ExampleNode() {
	ctx := context.Background()
	loopback := []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}
	run := func(cfg muster.Config) *muster.Node {
		n, err := muster.New(cfg)
		if err != nil {
			log.Fatal(err)
		}
		if err := n.Start(ctx); err != nil {
			log.Fatal(err)
		}
		return n
	}
	point := run(muster.Config{Listen: loopback, Point: &muster.PointConfig{}})
	defer func() { _ = point.Close() }()
	points := []peer.AddrInfo{{ID: point.ID(), Addrs: point.Host().Addrs()}}

	nas := run(muster.Config{Listen: loopback, Points: points})
	defer func() { _ = nas.Close() }()
	if err := nas.Find.Register(ctx, "lab"); err != nil {
		log.Fatal(err)
	}

	laptop := run(muster.Config{Points: points})
	defer func() { _ = laptop.Close() }()
	found, err := laptop.Find.Peers(ctx, "lab", 10)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range found {
		fmt.Println(f.NS, f.ID == nas.ID())
	}
	// Output: lab true
}
