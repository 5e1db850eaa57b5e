// Command capture writes down the RPCs that a foreign pubsub peer sends, as
// vectors for unit tests: hello, GRAFT, messages, gossip, unsubscription.
//
//	capture NAME FILE PROGRAM [ARG…]
//
// FILE gets a comment and a line of hex for each RPC, without the length
// prefix.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/muster-p2p/muster/interop/internal/lines"
	"github.com/muster-p2p/muster/interop/pubsub/internal/gohost"
	"github.com/muster-p2p/muster/interop/pubsub/internal/peerproc"
)

const (
	topic = "room"
	// maxKept is the longest RPC that is worth a line.
	maxKept = 4096
)

var protocols = []protocol.ID{
	"/meshsub/1.3.0", "/meshsub/1.2.0", "/meshsub/1.1.0", "/meshsub/1.0.0", "/floodsub/1.0.0",
}

func main() {
	flag.Parse()
	if flag.NArg() < 3 {
		flag.Usage()
		os.Exit(2)
	}
	c := &capture{}
	err := c.run(flag.Arg(0), flag.Args()[2:])
	if err == nil {
		err = os.WriteFile(flag.Arg(1), c.out.Bytes(), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "capture:", err)
		os.Exit(1)
	}
}

type capture struct {
	mu   sync.Mutex
	step string
	out  bytes.Buffer
}

func (c *capture) enter(step string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step = step
}

func (c *capture) note(proto protocol.ID, rpc []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(rpc) > maxKept {
		fmt.Fprintf(&c.out, "# %s: %s, %d bytes, left out\n", proto, c.step, len(rpc))
		return
	}
	fmt.Fprintf(&c.out, "# %s: %s\n%s\n", proto, c.step, hex.EncodeToString(rpc))
}

func (c *capture) run(name string, argv []string) error {
	ctx := context.Background()
	h, err := gohost.New()
	if err != nil {
		return err
	}
	defer h.Close()
	for _, p := range protocols {
		h.SetStreamHandler(p, c.record)
	}
	p, err := lines.Start[peerproc.Answer](ctx, os.Stderr, argv...)
	if err != nil {
		return err
	}
	defer p.Close()
	fmt.Fprintf(&c.out, "# %s, peer %s, topic %q, captured by interop/pubsub/cmd/capture\n", name, p.ID, topic)
	return c.drive(ctx, h, p)
}

// drive walks the peer through what it can say. It waits after each step,
// since much of it is said at the next heartbeat.
func (c *capture) drive(ctx context.Context, h host.Host, p *lines.Peer[peerproc.Answer]) error {
	do := func(wait time.Duration, step string, words ...any) error {
		c.enter(step)
		_, err := p.Do(words...)
		time.Sleep(wait)
		return err
	}
	err := errors.Join(
		do(0, "", "subscribe", topic),
		do(time.Second, "hello", "connect", gohost.Addr(h)),
	)
	if err != nil {
		return err
	}
	id, err := peer.Decode(p.ID)
	if err != nil {
		return err
	}
	s, err := h.NewStream(ctx, id, protocols...)
	if err != nil {
		return err
	}
	defer s.Reset()
	c.enter("after our SUBSCRIBE")
	if err := send(s, []byte{10, 8, 8, 1, 18, 4, 'r', 'o', 'o', 'm'}); err != nil {
		return err
	}
	time.Sleep(2500 * time.Millisecond)
	err = errors.Join(
		do(time.Second, "message of 20 bytes", "publish", topic, "small", 1, 20),
		do(time.Second, "message of 2000 bytes", "publish", topic, "large", 1, 2000),
	)
	if err != nil {
		return err
	}
	c.enter("after our PRUNE")
	if err := send(s, []byte{26, 8, 34, 6, 10, 4, 'r', 'o', 'o', 'm'}); err != nil && s.Protocol() != "/floodsub/1.0.0" {
		return err
	}
	return errors.Join(
		do(2500*time.Millisecond, "message or gossip out of the mesh", "publish", topic, "gossip", 1, 20),
		do(time.Second, "unsubscribe", "unsubscribe", topic),
		do(time.Second, "subscribe again", "subscribe", topic),
	)
}

func (c *capture) record(s network.Stream) {
	defer s.Close()
	r := bufio.NewReader(s)
	for {
		n, err := binary.ReadUvarint(r)
		if err != nil || n > 1<<20 {
			return
		}
		rpc := make([]byte, n)
		if _, err := io.ReadFull(r, rpc); err != nil {
			return
		}
		c.note(s.Protocol(), rpc)
	}
}

func send(w io.Writer, rpc []byte) error {
	_, err := w.Write(append(binary.AppendUvarint(nil, uint64(len(rpc))), rpc...))
	return err
}
