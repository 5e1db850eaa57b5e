package main

import (
	"context"
	"encoding/binary"
	"io"
	"log"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/bench/reach/internal/pipe"
)

func acceptSeed(token string) string { return "acceptor " + token }

// accept holds a reservation at the relay and serves one pipe.
func accept(ctx context.Context, server, token string) error {
	h, relay, err := newPeer(acceptSeed(token), server)
	if err != nil {
		return err
	}
	defer closeSoon(h)
	h.SetStreamHandler(directProtocol, func(s network.Stream) {
		began, err := readStart(s)
		if err != nil {
			return
		}
		if _, err := s.Read(make([]byte, 1)); err != nil {
			return
		}
		path, addr := over(s.Conn())
		pipe.Report(pipe.Seen{Seen: "direct", Path: path, Detail: addr}, began)
	})
	done := make(chan struct{})
	var once sync.Once
	h.SetStreamHandler(pipeProtocol, func(s network.Stream) {
		once.Do(func() {
			defer close(done)
			began, err := readStart(s)
			if err != nil {
				log.Print(err)
				return
			}
			path, addr := over(s.Conn())
			pipe.Run(s, func() { pipe.Report(pipe.Seen{Seen: "first", Path: path, Detail: addr}, began) })
		})
	})
	if err := reserve(ctx, h, relay); err != nil {
		return err
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
	return nil
}

func reserve(ctx context.Context, h host.Host, relay peer.AddrInfo) error {
	if err := h.Connect(ctx, relay); err != nil {
		return err
	}
	_, err := client.Reserve(ctx, h, relay)
	return err
}

// dial opens the pipe over whatever connection comes first.
func dial(ctx context.Context, server, token string) error {
	h, relay, err := newPeer("dialler "+token, server)
	if err != nil {
		return err
	}
	defer closeSoon(h)
	_, id, err := key(acceptSeed(token))
	if err != nil {
		return err
	}
	circuit, err := ma.NewMultiaddr("/p2p/" + relay.ID.String() + "/p2p-circuit")
	if err != nil {
		return err
	}
	if err := h.Connect(ctx, relay); err != nil {
		return err
	}
	h.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if c.RemotePeer() == id && !relayed(c) {
			go tellDirect(ctx, h, id)
		}
	}})
	var via []ma.Multiaddr
	for _, a := range relay.Addrs {
		via = append(via, a.Encapsulate(circuit))
	}
	s, err := open(ctx, h, peer.AddrInfo{ID: id, Addrs: via})
	if err != nil {
		return err
	}
	if err := writeStart(s); err != nil {
		return err
	}
	pipe.Run(s, nil)
	return nil
}

// open asks again while the acceptor has no reservation yet.
func open(ctx context.Context, h host.Host, to peer.AddrInfo) (network.Stream, error) {
	for {
		err := h.Connect(ctx, to)
		if err == nil {
			return h.NewStream(network.WithAllowLimitedConn(ctx, "pipe"), to.ID, pipeProtocol)
		}
		log.Print(err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if sw, ok := h.Network().(*swarm.Swarm); ok {
			sw.Backoff().Clear(to.ID)
		}
	}
}

// tellDirect sends a byte on a stream of its own over a direct connection.
func tellDirect(ctx context.Context, h host.Host, to peer.ID) {
	s, err := h.NewStream(ctx, to, directProtocol)
	if err != nil {
		log.Print("direct: ", err)
		return
	}
	if writeStart(s) == nil {
		s.Write([]byte{1})
	}
}

// A stream begins with the moment at which the dialling process began, in
// nanoseconds of the clock that both processes share.
func writeStart(w io.Writer) error {
	return binary.Write(w, binary.BigEndian, pipe.Started.UnixNano())
}

func readStart(r io.Reader) (time.Time, error) {
	var ns int64
	err := binary.Read(r, binary.BigEndian, &ns)
	return time.Unix(0, ns), err
}
