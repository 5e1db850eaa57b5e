// Command capture writes down what a foreign rendezvous peer puts on the
// wire, as vectors for unit tests: its requests to a point that records them,
// and its answers to requests made by hand.
//
//	capture [-waku] NAME FILE PROGRAM [ARG…]
//
// FILE gets a comment and a line of hex for each message, without the length
// prefix.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
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
	"github.com/muster-p2p/muster/interop/rendezvous/internal/gohost"
	"github.com/muster-p2p/muster/interop/rendezvous/internal/peerproc"
)

const namespace = "room"

func main() {
	waku := flag.Bool("waku", false, "/vac/waku/rendezvous/0.0.1 instead of /rendezvous/1.0.0")
	flag.Parse()
	if flag.NArg() < 3 {
		flag.Usage()
		os.Exit(2)
	}
	c := &capture{proto: "/rendezvous/1.0.0", ttl: 7200}
	if *waku {
		c.proto, c.waku, c.ttl = "/vac/waku/rendezvous/0.0.1", true, 20
	}
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
	proto protocol.ID
	waku  bool
	ttl   int

	mu   sync.Mutex
	step string
	out  bytes.Buffer
}

func (c *capture) note(comment string, msg []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(&c.out, "# %s\n%s\n", comment, hex.EncodeToString(msg))
}

func (c *capture) remark(comment string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(&c.out, "# %s\n", comment)
}

func (c *capture) run(name string, argv []string) error {
	ctx := context.Background()
	h, err := gohost.New()
	if err != nil {
		return err
	}
	defer h.Close()
	h.SetStreamHandler(c.proto, c.serve)
	p, err := lines.Start[peerproc.Answer](ctx, os.Stderr, argv...)
	if err != nil {
		return err
	}
	defer p.Close()
	c.remark(fmt.Sprintf("%s, protocol %s, peer %s, captured by interop/rendezvous/cmd/capture", name, c.proto, p.ID))
	c.clientSide(h, p)
	return c.serverSide(ctx, h, p)
}

// clientSide drives the peer's client against our recording point.
func (c *capture) clientSide(h host.Host, p *lines.Peer[peerproc.Answer]) {
	addr := gohost.Addr(h)
	steps := []struct {
		name  string
		words []any
	}{
		{"client REGISTER", []any{"register", addr, namespace, c.ttl}},
		{"client REGISTER without ttl", []any{"register", addr, namespace, 0}},
		{"client DISCOVER limit 10", []any{"discover", addr, namespace, 10, "-"}},
		{"client DISCOVER limit 10 with cookie", []any{"discover", addr, namespace, 10, hex.EncodeToString([]byte("01234567room"))}},
		{"client DISCOVER all", []any{"discover", addr, "-", 10, "-"}},
		{"client UNREGISTER", []any{"unregister", addr, namespace}},
	}
	for _, s := range steps {
		c.mu.Lock()
		c.step = s.name
		c.mu.Unlock()
		if _, err := p.Do(s.words...); err != nil {
			c.remark(fmt.Sprintf("(%s ended with: %v)", s.name, err))
		}
	}
	time.Sleep(500 * time.Millisecond) // an UNREGISTER has no answer
}

// serve records requests and gives each the plainest good answer.
func (c *capture) serve(s network.Stream) {
	defer s.Close()
	_ = s.SetDeadline(time.Now().Add(20 * time.Second))
	for {
		msg, err := readFrame(s)
		if err != nil {
			return
		}
		c.mu.Lock()
		step := c.step
		c.mu.Unlock()
		c.note(step, msg)
		if _, err := s.Write(frame(c.answer(msg))); err != nil {
			return
		}
	}
}

func (c *capture) answer(msg []byte) []byte {
	if len(msg) < 2 || msg[0] != 8 {
		// No type: REGISTER, whose number zero proto3 leaves out.
		msg = []byte{8, 0}
	}
	switch {
	case msg[1] == 0:
		// type=REGISTER_RESPONSE registerResponse{status=OK ttl}
		ttl := binary.AppendUvarint([]byte{8, 0, 18, 0, 24}, uint64(c.ttl))
		return append([]byte{8, 1, 26, byte(len(ttl))}, ttl...)
	case c.waku:
		return []byte{8, 3, 42, 2, 24, 0}
	case msg[1] == 3:
		// type=DISCOVER_RESPONSE discoverResponse{cookie status=OK statusText}
		body := append([]byte{18, 12}, "01234567room"...)
		body = append(body, 24, 0, 34, 0)
		return append([]byte{8, 4, 50, byte(len(body))}, body...)
	}
	return nil
}

// serverSide asks the peer's point after its own client has registered there.
func (c *capture) serverSide(ctx context.Context, h host.Host, p *lines.Peer[peerproc.Answer]) error {
	id, err := gohost.Connect(ctx, h, p.Addr)
	if err != nil {
		return err
	}
	other, err := startOther(ctx)
	if err == nil {
		defer other.Close()
		_, err = other.Do("register", p.Addr, namespace, c.ttl)
	}
	if err != nil {
		c.remark(fmt.Sprintf("(registering a second peer ended with: %v)", err))
	}
	discover, ns := byte(3), append([]byte{10, 4}, namespace...)
	field := byte(42)
	if c.waku {
		discover, field = 2, 34
	}
	ask := func(name string, body []byte) {
		answer, err := c.ask(ctx, h, id, append([]byte{8, discover, field, byte(len(body))}, body...))
		if err != nil {
			c.remark(fmt.Sprintf("(%s ended with: %v)", name, err))
			return
		}
		c.note(name, answer)
	}
	ask("server DISCOVER_RESPONSE with one record", append(bytes.Clone(ns), 16, 10))
	ask("server DISCOVER_RESPONSE for an unknown namespace", []byte{10, 5, 'o', 't', 'h', 'e', 'r', 16, 10})
	if !c.waku {
		ask("server DISCOVER_RESPONSE for all namespaces", []byte{16, 10})
		ask("server DISCOVER_RESPONSE to a garbage cookie", append(bytes.Clone(ns), 26, 3, 1, 2, 3))
	}
	answer, err := c.ask(ctx, h, id, []byte{8, 0, 18, 14, 10, 4, 'r', 'o', 'o', 'm', 18, 3, 1, 2, 3, 24, 0x90, 28, 0}[:18])
	if err != nil {
		c.remark(fmt.Sprintf("(server REGISTER_RESPONSE to a garbage record ended with: %v)", err))
		return nil
	}
	c.note("server REGISTER_RESPONSE to a garbage record", answer)
	return nil
}

// startOther runs the same program again.
func startOther(ctx context.Context) (*lines.Peer[peerproc.Answer], error) {
	return lines.Start[peerproc.Answer](ctx, os.Stderr, flag.Args()[2:]...)
}

func (c *capture) ask(ctx context.Context, h host.Host, id peer.ID, msg []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	s, err := h.NewStream(ctx, id, c.proto)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	_ = s.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := s.Write(frame(msg)); err != nil {
		return nil, err
	}
	return readFrame(s)
}

func frame(msg []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(msg))), msg...)
}

func readFrame(r io.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(byteReader{r})
	if err != nil {
		return nil, err
	}
	if n > 4<<20 {
		return nil, fmt.Errorf("frame of %d bytes", n)
	}
	msg := make([]byte, n)
	_, err = io.ReadFull(r, msg)
	return msg, err
}

type byteReader struct{ io.Reader }

func (r byteReader) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err
}
