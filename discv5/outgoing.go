package discv5

import (
	"errors"
	"net/netip"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
)

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
	if !c.sessions.usable(now, s) {
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
	next := s.expect(newKeyset(j.keys.Recipient, j.keys.Initiator))
	var iv [16]byte
	_, _ = c.bytes.Read(iv[:]) // never fails
	r.nonce = c.sessions.nonce(next)
	r.message(&c.reply, c.local.Seq())
	packet, err := c.codec.AppendHandshake(out.buffer(), wire.NewMask(j.at.id), iv, r.nonce,
		wire.NewAEAD(next.write), j.signature, j.ephemeral, record, &c.reply)
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
		c.out.quick = c.out.quick || r.done != nil && now.Sub(r.sent) < lendBelow
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
		s.giveUp()
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
// be down, and the table would empty. With its seat a node that was
// there once loses its session: should it come back, it shakes hands, and that
// is when nodes are let in.
func (c *core) unanswered(r *request) {
	e := c.table.get(r.to.at.id)
	if e == nil || e.addr != r.to.at.addr {
		return
	}
	if e.live && c.table.n > 1 && !c.heard.After(r.sent) {
		c.table.unanswered(e)
		return
	}
	if seen := !e.seen.IsZero(); c.table.failed(e) && seen {
		c.sessions.drop(r.to.at)
	}
}

// cancel ends a request that nobody waits for any more.
func (c *core) cancel(now time.Time, r *request, err error, out *outbox) {
	c.out = out
	c.finish(now, r, err)
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
