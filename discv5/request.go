package discv5

import (
	"net/netip"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
)

const (
	// maxPerPeer bounds the requests to one endpoint, sent or waiting for the
	// handshake.
	maxPerPeer = 256

	// maxNodesPackets is how many NODES packets of one answer are read: the
	// 16 records of an answer at three a packet, as some send them.
	maxNodesPackets = 6

	// maxNodesRecords is how many records of one answer are read: "The
	// recommended result limit for FINDNODE queries is 16 nodes."
	maxNodesRecords = 16

	// nodesGrace is how long to wait for the rest of an answer whose first
	// packet has come: its packets are sent together.
	nodesGrace = time.Second
)

// A reqState names what a request waits for.
type reqState uint8

const (
	reqQueued     reqState = iota // waits for the session
	reqProbing                    // a packet nobody can decrypt is out: waits for WHOAREYOU
	reqSent                       // waits for the answer, or WHOAREYOU if the session is lost
	reqChallenged                 // WHOAREYOU came, the handshake is being computed
	reqProving                    // the handshake packet is out: waits for the answer
	reqDone
)

// A request is one message to one endpoint and what has come in answer.
type request struct {
	to    *contact
	state reqState
	nonce wire.Nonce // of the last packet
	sent  time.Time
	due   time.Time
	timer *requestList // which it is in, if any

	kind      wire.Kind
	id        wire.ReqID
	distances []uint16
	protocol  []byte
	payload   []byte // TALKREQ's

	// The answer.
	err      error
	seq      uint64
	endpoint netip.AddrPort
	answer   []byte // TALKRESP's payload, or NODES' records one after the other
	records  int
	parts    uint64
	total    uint64

	// done receives the request when it is finished, and must have room. If
	// it is nil, nobody waits.
	done chan *request

	newer, older *request // in the timer list
}

// message is what the request says.
func (r *request) message(m *wire.Message, seq uint64) {
	*m = wire.Message{
		Kind: r.kind, ReqID: r.id, Seq: seq,
		Distances: r.distances, Protocol: r.protocol, Payload: r.payload,
	}
}

// answeredBy reports which kind of message answers the request.
func (r *request) answeredBy() wire.Kind {
	switch r.kind {
	case wire.KindPing:
		return wire.KindPong
	case wire.KindFindNode:
		return wire.KindNodes
	default:
		return wire.KindTalkResp
	}
}

// A contact is an endpoint that requests are under way to.
type contact struct {
	at        endpoint
	record    *enr.Record
	inflight  []*request // sent
	queue     []*request // waiting for the handshake
	handshake *request   // the one that makes the session, nil if none
	next      *contact   // at the same address
}

func (c *contact) size() int { return len(c.inflight) + len(c.queue) }

// take removes the request from those in flight.
func (c *contact) take(r *request) {
	for i, o := range c.inflight {
		if o == r {
			last := len(c.inflight) - 1
			c.inflight[i] = c.inflight[last]
			c.inflight[last] = nil
			c.inflight = c.inflight[:last]
			return
		}
	}
	for i, o := range c.queue {
		if o == r {
			c.queue = append(c.queue[:i], c.queue[i+1:]...)
			return
		}
	}
}

// find returns the request in flight with this ID.
func (c *contact) find(id wire.ReqID) *request {
	for _, r := range c.inflight {
		if r.id == id {
			return r
		}
	}
	return nil
}

// A requestList is a queue of requests ordered by when they are due. All in
// one list have the same time-out, so a new one is always last.
type requestList struct {
	oldest, newest *request
}

func (l *requestList) push(r *request, due time.Time) {
	r.stop()
	r.timer, r.due = l, due
	r.older, r.newer = l.newest, nil
	if l.newest != nil {
		l.newest.newer = r
	} else {
		l.oldest = r
	}
	l.newest = r
}

// stop takes the request out of its timer list.
func (r *request) stop() {
	l := r.timer
	if l == nil {
		return
	}
	if r.older != nil {
		r.older.newer = r.newer
	} else {
		l.oldest = r.newer
	}
	if r.newer != nil {
		r.newer.older = r.older
	} else {
		l.newest = r.older
	}
	r.timer, r.newer, r.older = nil, nil, nil
}

// contactBook finds contacts by endpoint and by address alone, which is all
// that WHOAREYOU tells of its sender.
type contactBook struct {
	byPeer map[endpoint]*contact
	byAddr map[netip.AddrPort]*contact
	spare  *contact // one kept for the next, since most are short-lived
}

func newContactBook() contactBook {
	return contactBook{byPeer: make(map[endpoint]*contact), byAddr: make(map[netip.AddrPort]*contact)}
}

func (b *contactBook) ensure(at endpoint, r *enr.Record) *contact {
	c := b.byPeer[at]
	if c == nil {
		if c = b.spare; c == nil {
			c = new(contact)
		}
		b.spare = nil
		c.at, c.next = at, b.byAddr[at.addr]
		b.byPeer[at], b.byAddr[at.addr] = c, c
	}
	if r != nil && (c.record == nil || r.Seq() > c.record.Seq()) {
		c.record = r
	}
	return c
}

// drop forgets a contact with nothing under way.
func (b *contactBook) drop(c *contact) {
	if c.size() > 0 {
		return
	}
	delete(b.byPeer, c.at)
	if first := b.byAddr[c.at.addr]; first == c {
		if c.next == nil {
			delete(b.byAddr, c.at.addr)
		} else {
			b.byAddr[c.at.addr] = c.next
		}
	} else {
		for p := first; p != nil; p = p.next {
			if p.next == c {
				p.next = c.next
				break
			}
		}
	}
	*c = contact{inflight: c.inflight[:0], queue: c.queue[:0]}
	b.spare = c
}
