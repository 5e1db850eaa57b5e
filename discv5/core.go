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

	moved   int64         // when the local record's endpoint changed, Unix seconds
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
	o.refresh, o.kick = false, false
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

// challenge answers a packet that cannot be decrypted: "If node B does not
// have session keys or decryption is not successful, it must initiate a
// handshake by responding with a WHOAREYOU packet."
//
// While a challenge is pending the same one is sent again. The specification
// asks for a new one that names the later packet; the networks' programs do
// it this way, so that a packet in between cannot void a handshake under way.
func (c *core) challenge(now time.Time, at endpoint, nonce wire.Nonce, haveSession bool) {
	record := c.table.record(at.id)
	known := record != nil || haveSession
	if !c.challenges.allow(now, at.addr.Addr(), known) {
		return
	}
	ch := c.challenges.get(now, at)
	if ch != nil {
		ch.sends++
	} else {
		if record == nil {
			if contact := c.contacts.byPeer[at]; contact != nil {
				record = contact.record
			}
		}
		ch = c.newChallenge(now, at, nonce, record)
		ch.known = known
		if !c.challenges.add(now, ch) {
			return
		}
	}
	c.out.add(at.addr, c.codec.AppendWhoareyou(c.out.buffer(), wire.NewMask(at.id), &ch.data))
	c.stats.ChallengesSent++
}

func (c *core) newChallenge(now time.Time, at endpoint, nonce wire.Nonce, record *enr.Record) *challenge {
	var iv, idNonce [16]byte
	_, _ = c.bytes.Read(iv[:]) // never fails
	_, _ = c.bytes.Read(idNonce[:])
	var seq uint64
	if record != nil {
		seq = record.Seq()
	}
	return &challenge{at: at, data: wire.NewChallenge(iv, nonce, idNonce, seq), record: record, sent: now}
}

// handleWhoareyou starts the handshake for the request that is challenged.
// "WHOAREYOU is only ever valid as a response to a previously sent request":
// it must come from where that went, and once.
func (c *core) handleWhoareyou(now time.Time, from netip.AddrPort, h *wire.Header, packet []byte) {
	r := c.challenged(from, h.Nonce)
	if r == nil {
		c.stats.UnsolicitedChallenges++
		return
	}
	to := r.to
	if to.handshake != nil && to.handshake != r {
		// A handshake is under way already; this request follows it.
		c.requeue(to, r)
		return
	}
	to.handshake = r
	for i := 0; i < len(to.inflight); {
		// "When this happens, all buffered requests can be considered invalid
		// (the remote end cannot decrypt them)".
		if o := to.inflight[i]; o != r && o.state == reqSent {
			c.requeue(to, o)
			continue
		}
		i++
	}
	r.state = reqChallenged
	c.probing.push(r, now.Add(c.cfg.handshakeTimeout))
	c.out.jobs = append(c.out.jobs, &job{
		kind: jobProve, at: to.at, challenge: wire.ChallengeOf(packet),
		reqID: r.id, record: to.record, recordSeq: h.RecordSeq,
	})
}

// challenged returns the request that was sent to addr in a packet with this
// nonce and has not been challenged yet.
func (c *core) challenged(addr netip.AddrPort, nonce wire.Nonce) *request {
	for to := c.contacts.byAddr[addr]; to != nil; to = to.next {
		for _, r := range to.inflight {
			if r.nonce == nonce && (r.state == reqSent || r.state == reqProbing) {
				return r
			}
		}
	}
	return nil
}

// requeue makes a request in flight wait for the handshake. Its deadline
// stays as it is.
func (c *core) requeue(to *contact, r *request) {
	to.take(r)
	r.state = reqQueued
	to.queue = append(to.queue, r)
}

// handleHandshake has a handshake packet verified, if there is a challenge
// that it may answer.
func (c *core) handleHandshake(now time.Time, from netip.AddrPort, h *wire.Header, packet, message []byte) {
	at := endpoint{h.Src, from}
	ch := c.challenges.get(now, at)
	if ch == nil || ch.tries >= maxTries {
		c.stats.UnsolicitedHandshakes++
		return
	}
	ch.tries++
	j := &job{kind: jobAccept, at: at, challenge: ch.data, record: ch.record, packet: append([]byte(nil), packet...)}
	j.message = j.packet[len(packet)-len(message):]
	c.out.jobs = append(c.out.jobs, j)
}

// accepted installs the session of a handshake that was verified and whose
// message was decrypted, and handles that message.
func (c *core) accepted(now time.Time, j *job, out *outbox) {
	c.out = out
	ch := c.challenges.get(now, j.at)
	if ch == nil || ch.data != j.challenge {
		return // too late, or the second copy of one packet
	}
	c.challenges.answered(now, ch)
	s := c.sessions.ensure(j.at, c.isMember(j.at))
	s.establish(now, newKeyset(j.keys.Initiator, j.keys.Recipient))
	c.stats.HandshakesIn++
	c.event(Event{Kind: SessionEstablished, ID: j.at.id, Addr: j.at.addr})
	if j.fresh != nil {
		c.learned(now, j.fresh, j.at.addr)
	} else if j.record != nil {
		c.learned(now, j.record, j.at.addr)
	}
	if to := c.contacts.byPeer[j.at]; to != nil {
		c.flush(now, to)
	}
	c.handleMessage(now, s, &s.current, j.plaintext)
}

// learned takes the record of a node that has just proved who it is. It comes
// into the table if it says that it lives where it called from, not seen
// alive yet, and if the table has been filled by queries of our own before:
// "implementations of the Kademlia table should avoid taking on new members
// on incoming contact unless the table is well-stocked from outbound queries".
func (c *core) learned(now time.Time, r *enr.Record, from netip.AddrPort) {
	e := c.table.get(r.ID())
	switch {
	case e == nil && !declares(r, from):
	case e == nil && !c.ready:
		if len(c.early) < maxEarly {
			c.early = append(c.early, r)
		}
	default:
		c.table.add(now, r)
		c.checkSoon(now)
	}
}

// maxEarly is how many nodes that call before the table is populated are kept
// for afterwards.
const maxEarly = 2 * bucketSize

// populated lets those who contact us into the table from now on.
func (c *core) populated(now time.Time, out *outbox) {
	c.out = out
	c.ready = true
	for _, r := range c.early {
		c.table.add(now, r)
	}
	c.early = nil
	c.checkSoon(now)
}

// checkSoon sees to it that newcomers are pinged soon, and not in the same
// instant: their handshake must end first.
func (c *core) checkSoon(now time.Time) {
	if c.table.unchecked == 0 {
		return
	}
	if c.check.Before(now) {
		c.check = now.Add(checkEvery)
	}
	if c.check.Before(c.wake) {
		c.out.kick = true
	}
}

func (c *core) isMember(at endpoint) bool {
	e := c.table.get(at.id)
	return e != nil && e.addr == at.addr
}

// handleMessage processes an authenticated message under the keys k of s.
func (c *core) handleMessage(now time.Time, s *session, k *keyset, plaintext []byte) {
	c.heard = now
	m := &c.in
	if err := m.Decode(plaintext); err != nil {
		c.stats.MessagesInvalid++
		return
	}
	switch m.Kind {
	case wire.KindPing:
		c.stats.PingsIn++
		c.handlePing(now, s, k, m)
	case wire.KindFindNode:
		c.stats.FindNodesIn++
		c.handleFindNode(s, k, m)
	case wire.KindTalkReq:
		c.stats.TalkRequestsIn++
		c.handleTalkReq(now, s, k, m)
	case wire.KindPong, wire.KindNodes, wire.KindTalkResp:
		c.handleAnswer(now, s.at, m)
	case wire.KindRegTopic, wire.KindRegConfirmation, wire.KindTopicQuery, wire.KindTopicNodes:
		c.stats.TopicMessages++ // not spoken yet: silence
	}
}

// respond sends c.reply: "When responding to a request, the response should
// be sent to the UDP envelope address of the request."
func (c *core) respond(s *session, k *keyset) bool {
	if k.spent() {
		return false
	}
	packet, _, err := c.sessions.seal(c.out.buffer(), c.codec, s, k, &c.reply)
	if err != nil {
		return false
	}
	c.out.add(s.at.addr, packet)
	return true
}

func (c *core) handlePing(now time.Time, s *session, k *keyset, m *wire.Message) {
	seq := m.Seq
	c.reply = wire.Message{Kind: wire.KindPong, ReqID: m.ReqID, Seq: c.local.Seq(), To: s.at.addr, Records: c.reply.Records}
	c.respond(s, k)
	if e := c.table.get(s.at.id); e != nil && e.addr == s.at.addr {
		c.fetch(now, e, seq)
	}
}

// nodesRoom is how many bytes of records fit one NODES packet: what a message
// may have, less type, list headers, an 8-byte request ID and total.
const nodesRoom = wire.MaxPlaintext - (1 + 3 + 9 + 1 + 3)

// nodesPackets is how many NODES packets we answer with: as many as all
// implementations read.
const nodesPackets = 5

// handleFindNode answers with our own record for distance 0 and live nodes at
// the other distances. "When responding to FINDNODE, implementations must
// avoid relaying any nodes whose liveness has not been verified."
func (c *core) handleFindNode(s *session, k *keyset, m *wire.Message) {
	records := c.reply.Records[:0]
	for _, d := range m.Distances {
		if d == 0 {
			records = append(records, c.local.Bytes())
			break
		}
	}
	c.found = c.table.atDistances(c.found[:0], m.Distances, maxNodesRecords-len(records), func(e *entry) bool {
		return e.live && relayable(s.at.addr.Addr(), e.addr.Addr())
	})
	for _, e := range c.found {
		records = append(records, e.record.Bytes())
	}
	clear(c.found)
	c.respondNodes(s, k, m.ReqID, records)
	c.reply.Records = records[:0]
}

// respondNodes sends records in as few packets as hold them.
func (c *core) respondNodes(s *session, k *keyset, id wire.ReqID, records [][]byte) {
	var cuts [nodesPackets + 1]int // where packet i begins
	parts, room := 0, 0
	for i, r := range records {
		if parts == 0 || len(r) > room {
			if parts == nodesPackets {
				records = records[:i]
				break
			}
			cuts[parts], room = i, nodesRoom
			parts++
		}
		room -= len(r)
	}
	parts = max(parts, 1) // no nodes are an answer too
	cuts[parts] = len(records)
	for i := range parts {
		c.reply = wire.Message{Kind: wire.KindNodes, ReqID: id, Total: uint64(parts), Records: records[cuts[i]:cuts[i+1]]}
		c.respond(s, k)
	}
}

// handleAnswer finds the request that m answers.
func (c *core) handleAnswer(now time.Time, at endpoint, m *wire.Message) {
	var r *request
	if to := c.contacts.byPeer[at]; to != nil {
		r = to.find(m.ReqID)
	}
	if r == nil || r.answeredBy() != m.Kind {
		c.stats.Unsolicited++
		return
	}
	switch m.Kind {
	case wire.KindPong:
		r.seq, r.endpoint = m.Seq, m.To
	case wire.KindNodes:
		if !c.gather(now, r, m) {
			return
		}
	default:
		r.answer = append(r.answer[:0], m.Payload...)
	}
	c.finish(now, r, nil)
}

// gather adds a NODES packet to the answer of r and reports whether that is
// complete. "Implementations may place a limit on the allowed maximum for
// total. If exceeded, additional responses may be ignored."
func (c *core) gather(now time.Time, r *request, m *wire.Message) bool {
	if r.parts > 0 && m.Total != r.total {
		c.stats.Unsolicited++
		return false
	}
	r.total = m.Total
	r.parts++
	for _, b := range m.Records {
		if r.records == maxNodesRecords {
			break
		}
		r.answer = append(r.answer, b...)
		r.records++
	}
	if r.parts >= min(r.total, maxNodesPackets) || r.records == maxNodesRecords {
		return true
	}
	if r.parts == 1 && now.Add(nodesGrace).Before(r.due) {
		c.schedule(&c.partial, r, now.Add(nodesGrace))
	}
	return false
}

// begin sends a new request, or queues it behind a handshake.
func (c *core) begin(now time.Time, r *request, record *enr.Record, addr netip.AddrPort, out *outbox) error {
	c.out = out
	r.id = wire.NewReqID(c.bytes.Uint64())
	if r.message(&c.reply, c.local.Seq()); c.reply.Size() > wire.MaxPlaintext {
		return ErrTooLarge
	}
	to := c.contacts.ensure(endpoint{record.ID(), addr}, record)
	if to.size() >= maxPerPeer {
		c.stats.RequestsRefused++
		return ErrBusy
	}
	r.to, r.sent = to, now
	c.stats.RequestsOut++
	if to.handshake != nil {
		r.state = reqQueued
		to.queue = append(to.queue, r)
		c.schedule(&c.waiting, r, now.Add(c.cfg.responseTimeout))
		return nil
	}
	c.dispatch(now, r)
	return nil
}

// dispatch sends r under the session, or opens a handshake with it.
func (c *core) dispatch(now time.Time, r *request) {
	to := r.to
	s := c.sessions.get(to.at)
	if !s.usable(now) || s.since <= c.moved {
		if to.handshake == nil {
			c.probe(now, r)
		} else {
			to.queue = append(to.queue, r)
		}
		return
	}
	r.message(&c.reply, c.local.Seq())
	packet, nonce, err := c.sessions.seal(c.out.buffer(), c.codec, s, &s.current, &c.reply)
	if err != nil {
		panic("BUG: discv5: a request that was measured does not fit: " + err.Error())
	}
	c.out.add(to.at.addr, packet)
	r.nonce, r.state = nonce, reqSent
	to.inflight = append(to.inflight, r)
	if r.timer == nil {
		c.schedule(&c.waiting, r, now.Add(c.cfg.responseTimeout))
	}
}

// probe sends "an ordinary message packet with random message content" in
// place of r, to be challenged.
func (c *core) probe(now time.Time, r *request) {
	to := r.to
	var iv [16]byte
	var content [randomContent]byte
	_, _ = c.bytes.Read(iv[:]) // never fails
	_, _ = c.bytes.Read(r.nonce[:])
	_, _ = c.bytes.Read(content[:])
	c.out.add(to.at.addr, c.codec.AppendRandom(c.out.buffer(), wire.NewMask(to.at.id), iv, r.nonce, content[:]))
	r.state = reqProbing
	to.handshake = r
	to.inflight = append(to.inflight, r)
	c.schedule(&c.probing, r, now.Add(c.cfg.handshakeTimeout))
}

func (c *core) schedule(l *requestList, r *request, due time.Time) {
	l.push(r, due)
	if due.Before(c.wake) {
		c.out.kick = true
	}
}

// proved sends the handshake packet that a job has computed. The new keys
// wait beside the session's until the peer answers under them.
func (c *core) proved(now time.Time, j *job, out *outbox) {
	c.out = out
	to := c.contacts.byPeer[j.at]
	if to == nil || to.handshake == nil || to.handshake.id != j.reqID || to.handshake.state != reqChallenged {
		return // it was given up
	}
	var record []byte
	if j.recordSeq < c.local.Seq() {
		record = c.local.Bytes()
	}
	r := c.carrier(now, to, len(record))
	s := c.sessions.ensure(j.at, c.isMember(j.at))
	s.next = newKeyset(j.keys.Recipient, j.keys.Initiator)
	var iv [16]byte
	_, _ = c.bytes.Read(iv[:]) // never fails
	r.nonce = c.sessions.nonce(&s.next)
	r.message(&c.reply, c.local.Seq())
	packet, err := c.codec.AppendHandshake(out.buffer(), wire.NewMask(j.at.id), iv, r.nonce,
		wire.NewAEAD(s.next.write), j.signature, j.ephemeral, record, &c.reply)
	if err != nil {
		c.finish(now, r, ErrTooLarge)
		return
	}
	out.add(j.at.addr, packet)
	r.state = reqProving
	c.schedule(&c.probing, r, now.Add(c.cfg.handshakeTimeout))
	c.stats.HandshakesOut++
}

// carrier returns the request that goes into the handshake packet: the one
// that was challenged, or a PING in front of it if it is too long to fit.
func (c *core) carrier(now time.Time, to *contact, record int) *request {
	r := to.handshake
	r.message(&c.reply, c.local.Seq())
	if c.reply.Size() <= wire.MaxHandshakePlaintext+300-record {
		return r
	}
	ping := &request{to: to, kind: wire.KindPing, id: wire.NewReqID(c.bytes.Uint64()), sent: now}
	c.schedule(&c.waiting, r, now.Add(c.cfg.responseTimeout))
	c.requeue(to, r)
	to.inflight = append(to.inflight, ping)
	to.handshake = ping
	return ping
}

// confirmed is called when the peer has answered under the keys of our
// handshake: what waited for it can go.
func (c *core) confirmed(now time.Time, at endpoint) {
	c.event(Event{Kind: SessionEstablished, ID: at.id, Addr: at.addr})
	to := c.contacts.byPeer[at]
	if to == nil {
		return
	}
	to.handshake = nil
	c.flush(now, to)
}

// flush sends the requests that waited for a session.
func (c *core) flush(now time.Time, to *contact) {
	queue := to.queue
	to.queue = nil
	for _, r := range queue {
		c.dispatch(now, r)
	}
	if to.queue == nil {
		clear(queue)
		to.queue = queue[:0]
	}
}

// finish ends r and tells who waits for it. A nil error means that the answer
// has come.
func (c *core) finish(now time.Time, r *request, err error) {
	if r.state == reqDone {
		return
	}
	to := r.to
	r.stop()
	to.take(r)
	handshake := to.handshake == r
	if handshake {
		to.handshake = nil
	}
	switch {
	case err == nil:
		c.answered(now, r)
		if handshake {
			c.flush(now, to)
		}
	case errors.Is(err, ErrTimeout):
		c.unanswered(r)
		if handshake {
			c.handshakeFailed(to)
		}
	case handshake && len(to.queue) > 0:
		c.flush(now, to) // a handshake that was called off: the next begins one
	}
	c.deliver(r, err)
	c.contacts.drop(to)
}

// handshakeFailed gives up all that waited for the handshake, which nobody
// answered, and keeps the session there was.
func (c *core) handshakeFailed(to *contact) {
	if s := c.sessions.byPeer[to.at]; s != nil {
		s.next = keyset{}
		if !s.current.live() {
			c.sessions.remove(s)
		}
	}
	queue := to.queue
	to.queue = nil
	for _, q := range queue {
		q.stop()
		c.deliver(q, ErrTimeout)
	}
}

func (c *core) deliver(r *request, err error) {
	if err != nil {
		c.stats.RequestsFailed++
	}
	r.err, r.state = err, reqDone
	if r.done != nil {
		r.done <- r // it has room
	}
}

// answered takes notice of a node that answers: it is alive.
func (c *core) answered(now time.Time, r *request) {
	at, record := r.to.at, r.to.record
	e := c.table.get(at.id)
	if e == nil && record != nil {
		if addr, ok := c.fam.endpointOf(record); ok && addr == at.addr {
			e, _ = c.table.add(now, record)
			c.checkSoon(now)
		}
	}
	if e != nil && e.addr == at.addr {
		c.table.seen(now, e, r.kind == wire.KindPing)
	}
	if r.kind == wire.KindPing {
		c.votes.add(now, at, r.endpoint)
		if e != nil {
			c.fetch(now, e, r.seq)
		}
		c.checkVote(now, false)
	}
	if r.kind == wire.KindFindNode && r.done == nil && r.records > 0 { // fetch's
		c.out.jobs = append(c.out.jobs, &job{kind: jobRecord, at: at, packet: r.answer})
	}
}

// unanswered takes notice of a node that did not answer. It is held against a
// live node only if somebody else was heard since: otherwise our own link may
// be down, and the table would empty.
func (c *core) unanswered(r *request) {
	e := c.table.get(r.to.at.id)
	if e == nil || e.addr != r.to.at.addr {
		return
	}
	if e.live && c.table.n > 1 && !c.heard.After(r.sent) {
		c.table.unanswered(e)
		return
	}
	c.table.failed(e)
}

// cancel ends a request that nobody waits for any more.
func (c *core) cancel(now time.Time, r *request, err error, out *outbox) {
	c.out = out
	c.finish(now, r, err)
}

// fetch asks a node for its record if it says to have a newer one: "When the
// PONG response indicates that a new version of the node record is available,
// the liveness check should pull the new record and update it in the local
// table." Each number is asked for once.
func (c *core) fetch(now time.Time, e *entry, seq uint64) {
	if seq <= e.record.Seq() || seq <= e.wanted {
		return
	}
	e.wanted = seq
	r := &request{kind: wire.KindFindNode, distances: []uint16{0}}
	_ = c.begin(now, r, e.record, e.addr, c.out) // a busy peer is asked next time
}

// fetched takes a record that a node sent of itself.
func (c *core) fetched(now time.Time, j *job, out *outbox) {
	c.out = out
	if j.fresh.ID() != j.at.id || c.table.get(j.at.id) == nil {
		return
	}
	c.table.add(now, j.fresh)
	c.checkSoon(now)
}

// ping sends a PING that nobody waits for.
func (c *core) ping(now time.Time, e *entry) {
	e.pinging, e.pinged = true, now
	r := &request{kind: wire.KindPing}
	if err := c.begin(now, r, e.record, e.addr, c.out); err != nil {
		e.pinging = false
	}
}

// tick does what is due and returns when to call it again. Calling it earlier
// or later does no harm.
func (c *core) tick(now time.Time, out *outbox) time.Time {
	c.out = out
	for _, l := range [...]*requestList{&c.probing, &c.waiting, &c.partial} {
		for l.oldest != nil && !l.oldest.due.After(now) {
			c.expire(now, l.oldest)
		}
	}
	c.talks.expire(now, c)
	if !c.check.After(now) {
		if e := c.table.toCheck(now); e != nil {
			c.ping(now, e)
		}
		c.check = now.Add(checkEvery)
		if c.table.toCheck(now) == nil {
			c.check = now.Add(recheckEvery)
		}
	}
	if !c.revalid.After(now) {
		if e := c.table.toRevalidate(); e != nil {
			c.ping(now, e)
		}
		c.revalid = now.Add(time.Duration(c.rnd.Int64N(int64(c.cfg.revalidateMax))))
	}
	if !c.sweep.After(now) {
		c.sessions.sweep()
		c.challenges.expire(now)
		c.sweep = now.Add(sweepEvery)
	}
	if !c.refresh.After(now) {
		out.refresh = true
		c.every = min(refreshGrowth*c.every, c.cfg.refreshInterval)
		c.refresh = now.Add(c.every)
	}
	if !c.vote.After(now) {
		c.checkVote(now, true)
		c.vote = now.Add(c.cfg.voteInterval)
	}
	c.wake = c.next()
	return c.wake
}

func (c *core) next() time.Time {
	next := c.sweep
	for _, t := range [...]time.Time{c.revalid, c.refresh, c.vote, c.talks.next()} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	if c.table.unchecked > 0 && c.check.Before(next) {
		next = c.check
	}
	for _, l := range [...]*requestList{&c.probing, &c.waiting, &c.partial} {
		if l.oldest != nil && l.oldest.due.Before(next) {
			next = l.oldest.due
		}
	}
	return next
}

// expire ends a request whose time is over. An answer of which some packets
// came is an answer.
func (c *core) expire(now time.Time, r *request) {
	if r.parts > 0 {
		c.finish(now, r, nil)
		return
	}
	c.stats.Timeouts++
	c.finish(now, r, ErrTimeout)
}

// checkVote asks for the record to be updated if the peers agree that we are
// elsewhere. Between the regular times it does so only for a record that has
// no endpoint at all, with which nobody can find us.
func (c *core) checkVote(now time.Time, regular bool) {
	if !c.cfg.autoUpdate || len(c.votes.votes) < minVoters || !regular && now.Before(c.recount) {
		return
	}
	c.recount = now.Add(recountEvery)
	for _, v4 := range [...]bool{true, false} {
		var have netip.AddrPort
		var ok bool
		if v4 {
			have, ok = c.local.UDPEndpoint4()
		} else {
			have, ok = c.local.UDPEndpoint6()
		}
		if ok && !regular {
			continue
		}
		if ap, won := c.votes.winner(now, v4); won && ap != have {
			c.out.votes = append(c.out.votes, ap)
		}
	}
}
