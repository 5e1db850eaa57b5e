// Command peer-muster is muster's pubsub as a process: command peer-go with
// another import path, as it is. build.sh writes this file; the test
// TestPeersDifferByImportOnly holds the two to be the same.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	pubsub "github.com/muster-p2p/muster/pubsub"
	pb "github.com/muster-p2p/muster/pubsub/pb"

	"github.com/muster-p2p/muster/interop/pubsub/internal/gohost"
	"github.com/muster-p2p/muster/interop/pubsub/internal/peerproc"
)

// maxMessageSize leaves room for a message of 1 MiB and its envelope.
const maxMessageSize = 2 << 20

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "pubsub peer:", err)
		os.Exit(1)
	}
}

func run() error {
	opts := peerproc.Flags()
	flag.Parse()
	h, err := gohost.New()
	if err != nil {
		return err
	}
	defer h.Close()
	p := &node{h: h, counts: peerproc.NewCounts(), topics: map[string]*topic{}}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := p.start(ctx, opts); err != nil {
		return err
	}
	return peerproc.Run(gohost.Addr(h), h.ID().String(), p)
}

type topic struct {
	*pubsub.Topic
	sub    *pubsub.Subscription
	cancel context.CancelFunc
}

type node struct {
	h      host.Host
	ps     *pubsub.PubSub
	counts *peerproc.Counts

	mu     sync.Mutex
	topics map[string]*topic
}

func (n *node) start(ctx context.Context, o *peerproc.Options) (err error) {
	opts := []pubsub.Option{
		pubsub.WithMaxMessageSize(maxMessageSize),
		pubsub.WithRawTracer(tracer{n.counts}),
		pubsub.WithAppSpecificRpcInspector(n.inspect),
		pubsub.WithPeerOutboundQueueSize(4096),
		pubsub.WithValidateQueueSize(4096),
	}
	switch o.Sign {
	case "lax":
		opts = append(opts, pubsub.WithMessageSignaturePolicy(pubsub.LaxNoSign))
	case "none":
		opts = append(opts, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
			pubsub.WithMessageIdFn(func(m *pb.Message) string { return peerproc.ContentID(m.GetData()) }))
	}
	if o.Router == "floodsub" {
		n.ps, err = pubsub.NewFloodSub(ctx, n.h, opts...)
		return err
	}
	params := pubsub.DefaultGossipSubParams()
	if o.Degree > 0 {
		params.D, params.Dlo, params.Dhi = o.Degree, o.Degree, o.Degree
		params.Dout, params.Dscore = 0, min(params.Dscore, o.Degree)
	}
	opts = append(opts, pubsub.WithGossipSubParams(params), pubsub.WithPeerExchange(o.PX))
	n.ps, err = pubsub.NewGossipSub(ctx, n.h, opts...)
	return err
}

// inspect counts what comes in; the tracer counts what goes out.
func (n *node) inspect(from peer.ID, rpc *pubsub.RPC) error {
	n.counts.RPC(from.String(), false, summary(rpc))
	return nil
}

func summary(rpc *pubsub.RPC) peerproc.Summary {
	var s peerproc.Summary
	control := rpc.GetControl()
	s.Graft = len(control.GetGraft())
	for _, p := range control.GetPrune() {
		s.Prune++
		for _, info := range p.GetPeers() {
			if len(info.GetSignedPeerRecord()) > 0 {
				s.PX++
			}
		}
	}
	for _, w := range control.GetIdontwant() {
		s.IDontWant += len(w.GetMessageIDs())
	}
	for _, h := range control.GetIhave() {
		s.IHave += len(h.GetMessageIDs())
	}
	for _, w := range control.GetIwant() {
		s.IWant += len(w.GetMessageIDs())
	}
	return s
}

func (n *node) Connect(ctx context.Context, addr string) error {
	_, err := gohost.Connect(ctx, n.h, addr)
	return err
}

func (n *node) join(name string) (*topic, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.topics[name]; t != nil {
		return t, nil
	}
	t, err := n.ps.Join(name)
	if err != nil {
		return nil, err
	}
	n.topics[name] = &topic{Topic: t}
	return n.topics[name], nil
}

func (n *node) Subscribe(name string) error {
	t, err := n.join(name)
	if err != nil {
		return err
	}
	sub, err := t.Subscribe(pubsub.WithBufferSize(8192))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.mu.Lock()
	t.sub, t.cancel = sub, cancel
	n.mu.Unlock()
	go func() {
		for {
			m, err := sub.Next(ctx)
			if err != nil {
				return
			}
			n.counts.Message(name, m.GetData())
		}
	}()
	return nil
}

func (n *node) Unsubscribe(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.topics[name]
	if t == nil || t.sub == nil {
		return fmt.Errorf("not subscribed to %q", name)
	}
	t.sub.Cancel()
	t.cancel()
	t.sub = nil
	return nil
}

func (n *node) Publish(ctx context.Context, name string, data []byte) error {
	t, err := n.join(name)
	if err != nil {
		return err
	}
	return t.Publish(ctx, data)
}

func (n *node) State(name string) peerproc.State {
	s := peerproc.State{Mesh: n.counts.Mesh(name)}
	for _, id := range n.ps.ListPeers(name) {
		s.Subscribers = append(s.Subscribers, id.String())
	}
	for _, id := range n.h.Network().Peers() {
		s.Connected = append(s.Connected, id.String())
	}
	return s
}

func (n *node) Counts() *peerproc.Counts { return n.counts }

// tracer is pubsub.RawTracer; it keeps the mesh and counts RPCs sent.
type tracer struct{ c *peerproc.Counts }

func (t tracer) Graft(p peer.ID, topic string)          { t.c.Graft(p.String(), topic) }
func (t tracer) Prune(p peer.ID, topic string)          { t.c.Prune(p.String(), topic) }
func (t tracer) SendRPC(rpc *pubsub.RPC, p peer.ID)     { t.c.RPC(p.String(), true, summary(rpc)) }
func (t tracer) DropRPC(*pubsub.RPC, peer.ID)           { t.c.Drop() }
func (t tracer) UndeliverableMessage(*pubsub.Message)   { t.c.Drop() }
func (tracer) OnNewOutboundStream(peer.ID, protocol.ID) {}
func (t tracer) OnClosedOutboundStream(p peer.ID)       { t.c.Gone(p.String()) }
func (tracer) Join(string)                              {}
func (tracer) Leave(string)                             {}
func (tracer) ValidateMessage(*pubsub.Message)          {}
func (tracer) DeliverMessage(*pubsub.Message)           {}
func (t tracer) RejectMessage(_ *pubsub.Message, reason string) {
	t.c.Reject(reason)
}
func (tracer) DuplicateMessage(*pubsub.Message) {}
func (tracer) ThrottlePeer(peer.ID)             {}
func (tracer) RecvRPC(*pubsub.RPC)              {}
