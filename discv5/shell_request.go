package discv5

import (
	"context"
	"net/netip"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/internal/rlp"
)

// A Pong is the answer to a PING.
type Pong struct {
	Seq      uint64         // number of the peer's record
	Endpoint netip.AddrPort // where our packet came from, as the peer sees it
}

// Ping asks the node that r describes for a sign of life. It returns
// ErrTimeout if there is none in time, and the context's error if that ends
// first. Many requests to one node go out at once, over one handshake; past
// 256 it returns ErrBusy.
func (n *Node) Ping(ctx context.Context, r *enr.Record) (Pong, error) {
	req := n.newRequest(wire.KindPing)
	defer n.release(req)
	if err := n.call(ctx, r, req); err != nil {
		return Pong{}, err
	}
	return Pong{Seq: req.seq, Endpoint: req.endpoint}, nil
}

// FindNode asks the node that r describes for the nodes it knows at these
// distances from itself; 0 is its own record. It returns at most 16, all of
// them verified, at one of the distances, and such as that node may tell of.
// They are not put into the table.
func (n *Node) FindNode(ctx context.Context, r *enr.Record, distances ...int) ([]*enr.Record, error) {
	req := n.newRequest(wire.KindFindNode)
	defer n.release(req)
	for _, d := range distances {
		if d >= 0 && d <= wire.MaxDistance {
			req.distances = append(req.distances, uint16(d))
		}
	}
	addr, err := n.reach(r)
	if err != nil {
		return nil, err
	}
	if err := n.callAt(ctx, r, addr, req); err != nil {
		return nil, err
	}
	return n.recordsIn(req.answer, r.ID(), addr, req.distances), nil
}

// TalkRequest sends an application's request to the node that r describes and
// returns the answer, which is empty if the node does not know the protocol.
// Request and protocol must fit a packet, 1170 bytes together, or it is
// ErrTooLarge.
func (n *Node) TalkRequest(ctx context.Context, r *enr.Record, protocol string, request []byte) ([]byte, error) {
	req := n.newRequest(wire.KindTalkReq)
	defer n.release(req)
	req.protocol = append(req.protocol[:0], protocol...)
	req.payload = append(req.payload[:0], request...)
	if err := n.call(ctx, r, req); err != nil {
		return nil, err
	}
	return append([]byte{}, req.answer...), nil
}

func (n *Node) newRequest(kind wire.Kind) *request {
	r := n.requests.Get().(*request)
	*r = request{
		kind: kind, done: r.done,
		distances: r.distances[:0], protocol: r.protocol[:0], payload: r.payload[:0], answer: r.answer[:0],
	}
	return r
}

// release gives back a request that core has finished or never had.
func (n *Node) release(r *request) {
	r.to = nil
	n.requests.Put(r)
}

// reach returns where to send to the node that r describes.
func (n *Node) reach(r *enr.Record) (netip.AddrPort, error) {
	if r.ID() == n.id {
		return netip.AddrPort{}, ErrSelf
	}
	addr, ok := n.fam.endpointOf(r)
	if !ok {
		return netip.AddrPort{}, ErrNoEndpoint
	}
	return addr, nil
}

// call sends a request and waits for its end.
func (n *Node) call(ctx context.Context, r *enr.Record, req *request) error {
	addr, err := n.reach(r)
	if err != nil {
		return err
	}
	return n.callAt(ctx, r, addr, req)
}

func (n *Node) callAt(ctx context.Context, r *enr.Record, addr netip.AddrPort, req *request) error {
	if err := n.start(r, addr, req); err != nil {
		return err
	}
	return n.await(ctx, req)
}

// start sends a request. Unless it returns an error, the request will come
// through its channel done.
func (n *Node) start(r *enr.Record, addr netip.AddrPort, req *request) error {
	if n.ctx.Err() != nil {
		return ErrClosed
	}
	out := n.outbox()
	now := time.Now()
	n.mu.Lock()
	err := n.core.begin(now, req, r, addr, out)
	n.mu.Unlock()
	n.done(out)
	return err
}

// abandon ends a request early. The answer may have come meanwhile.
func (n *Node) abandon(req *request, err error) error {
	n.cancelRequest(req, err)
	<-req.done // core has put it there, now or before
	return req.err
}

func (n *Node) cancelRequest(req *request, err error) {
	out := n.outbox()
	n.mu.Lock()
	n.core.cancel(time.Now(), req, err, out)
	n.mu.Unlock()
	n.done(out)
}

// recordsIn verifies the records of an answer and returns those that the
// sender may give: at a distance that was asked for, at an address that it
// may know of, and each node once. "The recipient should verify that the
// received nodes match the requested distances."
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-wire.md#nodes-response-0x04
func (n *Node) recordsIn(answer []byte, sender enr.ID, addr netip.AddrPort, distances []uint16) []*enr.Record {
	out := make([]*enr.Record, 0, maxNodesRecords)
	for len(answer) > 0 {
		raw := firstRecord(answer)
		answer = answer[len(raw):]
		r, err := n.parse(raw)
		if err != nil || !n.acceptable(r, sender, addr, distances) || has(out, r.ID()) {
			n.unrelayable.Add(1)
			continue
		}
		out = append(out, r)
	}
	return out
}

func (n *Node) acceptable(r *enr.Record, sender enr.ID, addr netip.AddrPort, distances []uint16) bool {
	d := uint16(enr.LogDistance(sender, r.ID()))
	asked := false
	for _, want := range distances {
		asked = asked || want == d
	}
	if !asked {
		return false
	}
	if d == 0 {
		return true // a node's word about itself; it is contacted there only if that is new
	}
	ap4, ok4 := r.UDPEndpoint4()
	ap6, ok6 := r.UDPEndpoint6()
	if ok4 && !relayable(addr.Addr(), ap4.Addr()) || ok6 && !relayable(addr.Addr(), ap6.Addr()) {
		return false
	}
	return ok4 || ok6 // "avoid sharing records containing no usable IP addresses or ports"
}

func has(l []*enr.Record, id enr.ID) bool {
	for _, r := range l {
		if r.ID() == id {
			return true
		}
	}
	return false
}

// firstRecord returns the first of the RLP lists that b is made of.
func firstRecord(b []byte) []byte {
	_, rest, err := rlp.List(b)
	if err != nil {
		return b
	}
	return b[:len(b)-len(rest)]
}
