// Command rdvtransport is a chat of libp2p programs behind NATs: two hosts that
// listen on no address meet at a point by their peer IDs alone, and talk by
// gossipsub over links. With -serve, it waits; with -to, it joins who waits.
//
//	go run ./examples/rdvtransport -point MULTIADDR             # prints its peer ID
//	go run ./examples/rdvtransport -point MULTIADDR -to PEERID
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/rdvtransport"
	"github.com/muster-p2p/muster/reach"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	point := flag.String("point", os.Getenv("MUSTER_POINT"), "the point's multiaddr, with /p2p/ID at its end")
	token := flag.String("token-file", os.Getenv("MUSTER_TOKEN_FILE"), "file with a token for the point")
	to := flag.String("to", "", "peer ID to join")
	flag.Parse()
	if err := run(ctx, *point, *token, *to, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "rdvtransport: "+err.Error())
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, point, tokenFile, to string, in io.Reader, out io.Writer) error {
	info, err := peer.AddrInfoFromString(point)
	if err != nil {
		return err
	}
	token := ""
	if tokenFile != "" {
		b, err := os.ReadFile(tokenFile)
		if err != nil {
			return err
		}
		token = strings.TrimSpace(string(b))
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return err
	}
	h, err := muster.NewHost(muster.HostConfig{Key: key}) // any go-libp2p host will do
	if err != nil {
		return err
	}
	defer h.Close() //nolint:errcheck // the program ends
	waits := make(chan reach.Event, 1)
	calls, err := muster.NewReach(h, key, muster.ReachConfig{
		Points: []peer.AddrInfo{*info}, AccessToken: token,
		Changed: func(e reach.Event) {
			select {
			case waits <- e:
			default:
			}
		},
	})
	if err != nil {
		return err
	}
	defer calls.Close() //nolint:errcheck // the program ends
	if err := addTransport(ctx, h, calls); err != nil {
		return err
	}
	topic, err := join(ctx, h)
	if err != nil {
		return err
	}
	select {
	case e := <-waits: // from now on the point can call us
		if e.Err != nil {
			return e.Err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	fmt.Fprintln(out, h.ID())
	if to != "" {
		id, err := peer.Decode(to)
		if err != nil {
			return err
		}
		if err := h.Connect(ctx, rdvtransport.AddrInfo(id)); err != nil {
			return err
		}
	}
	return chat(ctx, h, topic, in, out)
}

func join(ctx context.Context, h host.Host) (*pubsub.Topic, error) {
	ps, err := pubsub.NewGossipSub(ctx, h)
	if err != nil {
		return nil, err
	}
	return ps.Join("chat")
}

// addTransport gives h the transport over links, and has the point call it.
func addTransport(ctx context.Context, h host.Host, calls *muster.Reach) error {
	callers, err := calls.Listen(rdvtransport.Service, nil)
	if err != nil {
		return err
	}
	tr, err := rdvtransport.New(rdvtransport.Config{
		Dial: calls.Dial, Accept: callers.Accept, ResourceManager: h.Network().ResourceManager(),
	})
	if err != nil {
		return err
	}
	network, ok := h.Network().(transport.TransportNetwork)
	if !ok {
		return errors.New("the host's network takes no transports")
	}
	if err := network.AddTransport(tr); err != nil {
		return err
	}
	if err := network.Listen(rdvtransport.Addr()); err != nil {
		return err
	}
	return calls.Start(ctx)
}

// chat publishes the lines of in, and prints those of others.
func chat(ctx context.Context, h host.Host, topic *pubsub.Topic, in io.Reader, out io.Writer) error {
	sub, err := topic.Subscribe()
	if err != nil {
		return err
	}
	go func() {
		if topic.AwaitPeers(ctx, 1) != nil {
			return
		}
		for lines := bufio.NewScanner(in); lines.Scan(); {
			if topic.Publish(ctx, lines.Bytes()) != nil {
				return
			}
		}
	}()
	for {
		m, err := sub.Next(ctx)
		if err != nil {
			return nil // interrupted
		}
		if m.GetFrom() != h.ID() {
			fmt.Fprintf(out, "%s: %q\n", m.GetFrom(), m.Data)
		}
	}
}
