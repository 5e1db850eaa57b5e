package pubsub

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	pb "github.com/muster-p2p/muster/pubsub/pb"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// receive handles one message of an RPC, on the goroutine that read it. The
// cheap checks come first, and duplicates, which are most of what a mesh
// carries, go no further than the seen cache.
func (ps *PubSub) receive(now time.Time, rd *reader, w *wire.Message) {
	t := (*ps.topics.Load())[string(w.Topic)]
	if t == nil || !t.wanted.Load() {
		ps.stats.notWanted.Add(1)
		return
	}
	if len(w.From) > 0 && ps.blacklisted(peer.ID(w.From)) {
		ps.refuse(rd, w, t, RejectBlacklistedSource, false)
		return
	}
	if reason := checkPolicy(t.policy, t.noAuthor && !ps.cfg.UnsignedAuthors, ps.cfg.FloodSub, w); reason != "" {
		ps.refuse(rd, w, t, reason, true)
		return
	}
	id, key, ok := ps.identifyView(rd, w, t)
	if !ok {
		ps.stats.badIDs.Add(1)
		return
	}
	switch c := ps.seen.claim(now, key); c {
	case claimSeen, claimPending:
		ps.duplicate(now, rd, w, t, id, key, c)
	case claimNew:
		if len(w.From) > 0 && bytes.Equal(w.From, ps.author) {
			ps.seen.settle(now, key, false)
			ps.refuse(rd, w, t, RejectSelfOrigin, ps.forged(w))
			return
		}
		ps.validate(now, rd, w, t, ps.idString(rd, w, t, id), key)
	}
}

// forged reports whether a message in our name that we do not know cannot be
// one of an earlier run of ours, which honest peers may still have.
func (ps *PubSub) forged(w *wire.Message) bool {
	return len(w.Seqno) != 8 || binary.BigEndian.Uint64(w.Seqno) >= ps.firstSeqno
}

// identifyView returns the id and the key of a message that is still in its
// frame. For the default id function id is empty, and nothing is allocated.
func (ps *PubSub) identifyView(rd *reader, w *wire.Message, t *topicState) (id string, k seenKey, ok bool) {
	if t.idFn == nil {
		rd.scratch = append(append(rd.scratch[:0], w.From...), w.Seqno...)
		n := len(rd.scratch)
		return "", ps.seen.hash.keyBytes(rd.scratch), n > 0 && n <= ps.cfg.Limits.MessageID
	}
	rd.msg = pb.Message{From: w.From, Data: w.Data, Seqno: w.Seqno, Topic: &t.name, Signature: w.Signature, Key: w.Key}
	id = ps.callIDFn(t.idFn, &rd.msg)
	return id, ps.seen.hash.key(id), id != "" && len(id) <= ps.cfg.Limits.MessageID
}

// callIDFn makes an id with a function of the user's on what a stranger sent.
// A panic in it is contained: the message has no id then, and is dropped.
func (ps *PubSub) callIDFn(fn MsgIdFunction, m *pb.Message) (id string) {
	defer func() {
		if e := recover(); e != nil {
			ps.log.Error("a message-id function panicked", "topic", m.GetTopic(), "panic", e)
			id = ""
		}
	}()
	return fn(m)
}

func (ps *PubSub) idString(rd *reader, w *wire.Message, t *topicState, id string) string {
	if t.idFn == nil {
		rd.scratch = append(append(rd.scratch[:0], w.From...), w.Seqno...)
		return string(rd.scratch)
	}
	return id
}

// duplicate accounts for a copy of a message that is known.
func (ps *PubSub) duplicate(now time.Time, rd *reader, w *wire.Message, t *topicState, id string, k seenKey, c claim) {
	p := rd.p
	p.stats.dups.Add(1)
	ps.stats.duplicates.Add(1)
	ps.gated(p, gaterOutcome{kind: gaterDuplicate})
	if c == claimPending {
		p.unwant(k) // it has the message: do not forward it there
	} else {
		p.has(k)
	}
	if len(w.Data) >= ps.cfg.Params.IDontWantMessageThreshold {
		p.tuneDuplicate(k, len(w.Data))
	}
	promised := ps.promised.Load()
	if ps.scorer == nil && !ps.trace.active() && !promised {
		return
	}
	id = ps.idString(rd, w, t, id)
	if promised {
		ps.fulfil(p.id, id)
	}
	ps.withScorer(func(s *scorer) { s.duplicate(now, id, p.id, t.name) })
	if ps.trace.active() {
		ps.trace.duplicate(ps.viewMessage(rd, w, t, id))
	}
}

// viewMessage copies a message out of its frame for a tracer to see.
func (ps *PubSub) viewMessage(rd *reader, w *wire.Message, t *topicState, id string) *Message {
	m := newMessage(&wire.Message{
		From: cloned(w.From), Data: cloned(w.Data), Seqno: cloned(w.Seqno), Signature: cloned(w.Signature),
		Key: cloned(w.Key), Raw: cloned(w.Raw),
	}, &t.name, rd.p.id)
	m.ID = id
	return m
}

// refuse drops a message for what it is, and holds that against its sender if
// the sender should have seen it.
func (ps *PubSub) refuse(rd *reader, w *wire.Message, t *topicState, reason string, penalty bool) {
	ps.stats.rejected.Add(1)
	ps.gated(rd.p, gaterOutcome{kind: gaterRejected})
	if penalty {
		ps.stats.badSignatures.Add(1)
		ps.withScorer(func(s *scorer) { s.invalid(rd.p.id, t.name) })
		ps.rescore(rd.p)
		if n := ps.cfg.MaxBadSignatures; n > 0 && rd.p.badSigs.Add(1) == int64(n) && !ps.isDirect(rd.p.id) {
			ps.log.Info("disconnecting a peer that sends bad messages", "peer", rd.p.id, "reason", reason)
			rd.p.disconnect()
		}
	}
	if ps.trace.active() {
		ps.trace.reject(ps.viewMessage(rd, w, t, ""), reason)
	}
}

// validate takes a message that was claimed to the end of its validation, or
// to where its asynchronous validators take over.
func (ps *PubSub) validate(now time.Time, rd *reader, w *wire.Message, t *topicState, id string, k seenKey) {
	p := rd.p
	ps.fulfil(p.id, id)
	ps.withScorer(func(s *scorer) { s.validating(now, id) })
	if len(w.Data) >= ps.cfg.Params.IDontWantMessageThreshold {
		ps.sendDontWant(t, p, peer.ID(w.From), id, k, len(w.Data))
	}
	if w.Signature != nil && !ps.verify(w) {
		ps.seen.settle(now, k, false)
		ps.withScorer(func(s *scorer) { s.ignore(now, id) })
		ps.refuse(rd, w, t, RejectInvalidSignature, true)
		return
	}
	m := ps.detach(rd, w, t)
	m.ID, m.key = id, k
	ps.trace.validate(m)
	ps.runValidators(now, p, t, m)
}

// verify verifies a signature, on the goroutine that read it: that is a
// bound on the work that one peer can cause, and on what it delays.
func (ps *PubSub) verify(w *wire.Message) bool {
	if ps.verifyTurn != nil {
		ps.verifyTurn <- struct{}{}
		defer func() { <-ps.verifyTurn }()
	}
	scratch := signScratch.Get().(*[]byte)
	b, err := verifyMessage(w, *scratch)
	*scratch = b
	signScratch.Put(scratch)
	return err == nil
}

// detach makes a Message that outlives the frame it came in.
func (ps *PubSub) detach(rd *reader, w *wire.Message, t *topicState) *Message {
	field := w.Field
	if field == nil {
		field = wire.AppendPublishRaw(nil, w.Raw)
	}
	kept := rd.frame.keep(field)
	raw := kept[len(kept)-len(w.Raw):]
	var v wire.Message
	if err := v.Decode(raw); err != nil {
		panic("BUG: a message that was decoded is malformed")
	}
	v.Field = kept
	return newMessage(&v, &t.name, rd.p.id)
}

// accept is the end of a validation that went well.
func (ps *PubSub) accept(now time.Time, p *Peer, t *topicState, m *Message) {
	ps.seen.settle(now, m.key, true)
	ps.withScorer(func(s *scorer) { s.deliver(now, m.ID, m.ReceivedFrom, t.name) })
	ps.remember(t, m)
	ps.stats.delivered.Add(1)
	ps.gated(p, gaterOutcome{gaterDelivered, t.name})
	ps.trace.deliver(m)
	if ps.hasValid {
		ps.observeValidated(p, m)
	}
	t.deliver(ps, m)
	if tg := t.targets.Load(); tg != nil {
		ps.forward(ps.draw(tg, p, m.GetFrom()), m, p)
	}
}

// forward sends a message of others to peers, but for the one it came from
// and its author.
func (ps *PubSub) forward(to []*Peer, m *Message, from *Peer) {
	ln := ps.laneOf(m, LaneRelay)
	author := m.GetFrom()
	for _, p := range to {
		if p != from && p.id != author {
			ps.sendTo(p, m, ln)
		}
	}
}

// sendTo queues a message for a peer. What finds no room is counted by the
// queue; nothing waits.
func (ps *PubSub) sendTo(p *Peer, m *Message, ln Lane) {
	if err := p.enqueue(m, ln); err != nil {
		ps.log.Debug("message dropped", "peer", p.id, "err", err)
	}
}

func (ps *PubSub) laneOf(m *Message, ln Lane) Lane {
	if m.enc.size() >= ps.cfg.BulkSize {
		return LaneBulk
	}
	return ln
}

func (ps *PubSub) remember(t *topicState, m *Message) {
	if ps.cfg.FloodSub {
		return
	}
	ps.cacheMu.Lock()
	ps.cache.put(m.ID, t.name, m, m.enc.size())
	ps.cacheMu.Unlock()
}

func (ps *PubSub) gossipIDs(topic string) []string {
	ps.cacheMu.Lock()
	defer ps.cacheMu.Unlock()
	return ps.cache.gossipIDs(topic)
}

func (ps *PubSub) fetch(id []byte, p peer.ID) (m *Message, count, size int) {
	ps.cacheMu.Lock()
	defer ps.cacheMu.Unlock()
	m, count, ok := ps.cache.forPeer(string(id), p)
	if !ok {
		return nil, 0, 0
	}
	return m, count, m.enc.size()
}

// sendDontWant tells mesh peers that a message is here already.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.2.md#idontwant-message
func (ps *PubSub) sendDontWant(t *topicState, from *Peer, author peer.ID, id string, k seenKey, size int) {
	tg := t.targets.Load()
	if tg == nil {
		return
	}
	for _, p := range tg.dontWant {
		if p != from && p.id != author && p.tuneSend(k, size) {
			p.dontWant(id)
			ps.stats.idontwantSent.Add(1)
		}
	}
}

// identify gives a message that was made by hand its id and key.
func (ps *PubSub) identify(m *Message) error {
	m.ID = ps.messageID(m.Message)
	m.key = ps.seen.hash.key(m.ID)
	return nil
}

// fulfil notes that a message which may have been promised has arrived.
func (ps *PubSub) fulfil(from peer.ID, id string) {
	if !ps.promised.Load() {
		return
	}
	ps.promiseMu.Lock()
	defer ps.promiseMu.Unlock()
	ps.promises.arrived(from, id)
}

// promise notes that a peer was asked for a message. It runs on the owner.
func (ps *PubSub) promise(now time.Time, p peer.ID, id string, asked []string) {
	ps.promiseMu.Lock()
	defer ps.promiseMu.Unlock()
	ps.promises.add(now, p, id, asked)
	ps.promised.Store(true)
}

// breakPromises punishes those who advertised what they did not send.
func (ps *PubSub) breakPromises(now time.Time) {
	ps.promiseMu.Lock()
	broken := ps.promises.broken(now)
	ps.promised.Store(ps.promises.open() > 0)
	ps.promiseMu.Unlock()
	for p, n := range broken {
		ps.stats.brokenPromises.Add(uint64(n))
		ps.penalize(now, p, n)
	}
}
