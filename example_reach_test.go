package muster_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/access"
)

// Two peers that know the same point: one waits for callers of a service, the
// other one calls it. Both may be behind NATs; nobody but the two can read what
// they say.
func ExampleReach() {
	ctx := context.Background()
	loopback := []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}
	run := func(cfg muster.Config) *muster.Node {
		n, err := muster.New(cfg)
		if err == nil {
			err = n.Start(ctx)
		}
		if err != nil {
			log.Fatal(err)
		}
		return n
	}
	point := run(muster.Config{Listen: loopback, Point: &muster.PointConfig{HTTP: "127.0.0.1:0", Policy: access.Policy{Relay: access.OpenToEach}}})
	defer func() { _ = point.Close() }()
	points := []peer.AddrInfo{{ID: point.ID(), Addrs: point.Host().Addrs()}}

	nas := run(muster.Config{Points: points})
	defer func() { _ = nas.Close() }()
	hello, err := nas.Reach.Listen("hello", nil)
	if err == nil {
		err = nas.Reach.Start(ctx)
	}
	if err == nil {
		err = nas.Reach.Ready(ctx)
	}
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if conn, err := hello.Accept(ctx); err == nil {
			fmt.Fprintf(conn, "hello, %s", conn.RemotePeer().String()[:8])
			_ = conn.Close()
		}
	}()

	laptop := run(muster.Config{Points: points})
	defer func() { _ = laptop.Close() }()
	conn, err := laptop.Reach.Dial(ctx, nas.ID(), "hello")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	said, _ := io.ReadAll(conn)
	fmt.Println(string(said))
	// Output: hello, 12D3KooW
}
