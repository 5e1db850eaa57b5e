package discv5

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
)

// Errors of requests.
var (
	ErrTimeout    = errors.New("discv5: no answer in time")
	ErrBusy       = errors.New("discv5: too many requests to this node")
	ErrClosed     = errors.New("discv5: node is closed")
	ErrNoEndpoint = errors.New("discv5: record has no UDP endpoint that we can reach")
	ErrTooLarge   = errors.New("discv5: request does not fit a packet")
	ErrSelf       = errors.New("discv5: that node is this one")
)

const (
	// checkEvery paces the first pings to new nodes, which is how fast a
	// newcomer becomes known: twenty a second is faster than they come.
	checkEvery = 50 * time.Millisecond

	// sweepEvery is how often unused ciphers are dropped.
	sweepEvery = 30 * time.Second

	// firstRefresh is the first interval of the refresh loop. It triples up
	// to the configured one: a young network settles in a minute, and costs
	// little afterwards.
	firstRefresh  = 2 * time.Second
	refreshGrowth = 3

	// aloneRefresh is the interval while nobody in the table is alive: the
	// bootnodes may have been away, or the network.
	aloneRefresh = 15 * time.Second

	// recountEvery is how often votes are counted at most, while the record
	// has no endpoint.
	recountEvery = time.Second

	// randomContent is how long the content of a packet that only asks for a
	// handshake is: as long as a short message, so that it does not stand out.
	randomContent = 28
)

// core is the state of a node and its rules, without socket, clock or
// goroutine. Every method takes now, leaves what is to be done in the outbox
// and never blocks. It has one owner at a time: Node holds a lock over it.
type core struct {
	cfg   coreConfig
	self  enr.ID
	local *enr.Record
	fam   families

	codec *wire.Codec
	bytes *rand.ChaCha8 // nonces, vectors
	rnd   *rand.Rand    // choices
	in    wire.Message  // scratch
	reply wire.Message  // scratch
	found []*entry      // scratch
	out   *outbox       // of the call under way

	sessions   *sessionCache
	challenges *challengeTable
	contacts   contactBook
	table      *table
	votes      *ipVote
	talks      talkBook

	probing requestList // due after the handshake time-out
	waiting requestList // due after the response time-out
	partial requestList // due after the grace for the rest of NODES

	heard   time.Time     // last authenticated message
	ready   bool          // populated: nodes that contact us may come in
	early   []*enr.Record // that called before
	stats   Stats
	wake    time.Time // when tick is called next
	check   time.Time // of newcomers
	revalid time.Time
	sweep   time.Time
	refresh time.Time
	every   time.Duration // interval of refresh, growing
	vote    time.Time
	recount time.Time // of the votes, at the earliest
}

type coreConfig struct {
	handshakeTimeout time.Duration
	responseTimeout  time.Duration
	refreshInterval  time.Duration
	revalidateMax    time.Duration
	voteInterval     time.Duration
	autoUpdate       bool
}

// An outbox collects what a call of core wants done once the lock is free.
// Its buffers are used again.
type outbox struct {
	packets []outPacket
	n       int
	jobs    []*job
	events  []Event
	calls   []*talkCall
	votes   []netip.AddrPort // endpoints that the record should have
	refresh bool             // run a refresh
	kick    bool             // the next deadline is nearer than before
	quick   bool             // an answer that a caller waits for came at once
}

type outPacket struct {
	to netip.AddrPort
	b  []byte
}

// buffer returns an empty buffer for the next packet.
func (o *outbox) buffer() []byte {
	if o.n == len(o.packets) {
		o.packets = append(o.packets, outPacket{b: make([]byte, 0, wire.MaxPacket)})
	}
	return o.packets[o.n].b[:0]
}

// add keeps what was written into the buffer.
func (o *outbox) add(to netip.AddrPort, b []byte) {
	o.packets[o.n] = outPacket{to: to, b: b}
	o.n++
}

func (o *outbox) reset() {
	o.n = 0
	clear(o.jobs)
	clear(o.events)
	clear(o.calls)
	o.jobs, o.events, o.calls, o.votes = o.jobs[:0], o.events[:0], o.calls[:0], o.votes[:0]
	o.refresh, o.kick, o.quick = false, false, false
}

func (c *core) event(e Event) { c.out.events = append(c.out.events, e) }

// handle processes one packet, which it unmasks in place.
func (c *core) handle(now time.Time, from netip.AddrPort, packet []byte, out *outbox) {
	c.out = out
	c.stats.PacketsIn++
	c.stats.BytesIn += uint64(len(packet))
	var h wire.Header
	message, err := c.codec.Unmask(packet, &h)
	if err != nil {
		c.stats.PacketsInvalid++
		return
	}
	switch h.Flag {
	case wire.FlagMessage:
		c.handleMessagePacket(now, from, &h, packet, message)
	case wire.FlagWhoareyou:
		c.handleWhoareyou(now, from, &h, packet)
	case wire.FlagHandshake:
		c.handleHandshake(now, from, &h, packet, message)
	}
}

func (c *core) handleMessagePacket(now time.Time, from netip.AddrPort, h *wire.Header, packet, message []byte) {
	at := endpoint{h.Src, from}
	if at.id == c.self {
		c.stats.PacketsInvalid++
		return
	}
	s := c.sessions.get(at)
	if s == nil {
		c.challenge(now, at, h.Nonce, false)
		return
	}
	plaintext, k, confirmed := c.sessions.open(now, c.codec, s, h, packet, message)
	if k == nil {
		// The session stays: anyone can send such a packet. Only a handshake
		// that proves itself replaces it.
		c.stats.Undecryptable++
		c.challenge(now, at, h.Nonce, true)
		return
	}
	if confirmed {
		c.confirmed(now, at)
	}
	c.handleMessage(now, s, k, plaintext)
}
