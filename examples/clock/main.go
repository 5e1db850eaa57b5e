// Command clock has two peers call each other through a point: one tells the
// time to whoever calls its service "time", the other one asks.
//
//	go run ./examples/clock POINT            # waits for callers, prints its peer ID
//	go run ./examples/clock POINT PEERID     # asks
//
// POINT is what 'muster serve' prints; its access token, if it wants one, is in
// MUSTER_TOKEN.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv("MUSTER_TOKEN"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "clock: "+err.Error())
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, token string, out io.Writer) (err error) {
	if len(args) != 1 && len(args) != 2 {
		return errors.New("usage: clock POINT [PEERID]")
	}
	point, err := peer.AddrInfoFromString(args[0])
	if err != nil {
		return err
	}
	node, err := muster.New(muster.Config{Points: []peer.AddrInfo{*point}, Reach: muster.ReachConfig{AccessToken: token}})
	if err != nil {
		return err
	}
	if err := node.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	if len(args) == 1 {
		return tell(ctx, node, out)
	}
	id, err := peer.Decode(args[1])
	if err != nil {
		return err
	}
	return ask(ctx, node, id, out)
}

// tell tells callers the time until ctx ends.
func tell(ctx context.Context, node *muster.Node, out io.Writer) error {
	l, err := node.Reach.Listen("time", nil)
	if err != nil {
		return err
	}
	if err := errors.Join(node.Reach.Start(ctx), node.Reach.Ready(ctx)); err != nil {
		return err
	}
	fmt.Fprintln(out, node.ID())
	for {
		conn, err := l.Accept(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(conn, "it is %s here\n", time.Now().Format(time.RFC3339))
		if err := conn.Close(); err != nil {
			return err
		}
	}
}

// ask prints what a peer tells.
func ask(ctx context.Context, node *muster.Node, id peer.ID, out io.Writer) error {
	conn, err := node.Reach.Dial(ctx, id, "time")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, conn)
	return errors.Join(err, conn.Close())
}
