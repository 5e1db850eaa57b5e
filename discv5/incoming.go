package discv5

import (
	"net/netip"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
)

// challenge answers a packet that cannot be decrypted: "If node B does not
// have session keys or decryption is not successful, it must initiate a
// handshake by responding with a WHOAREYOU packet."
//
// While a challenge is pending and young the same one is sent again. The
// specification asks for a new one that names the later packet; the networks'
// programs do it this way, so that a packet in between cannot void a handshake
// under way. An older one was lost, or its packet is not waited for any more:
// then the later packet has its own.
func (c *core) challenge(now time.Time, at endpoint, nonce wire.Nonce, haveSession bool) {
	record := c.table.record(at.id)
	known := record != nil || haveSession
	if !c.challenges.allow(now, at.addr.Addr(), known) {
		return
	}
	ch := c.challenges.get(now, at)
	if ch != nil && now.Sub(ch.sent) < c.challenges.life/2 {
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
	c.sessions.establish(now, s, newKeyset(j.keys.Initiator, j.keys.Recipient))
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

func (c *core) isMember(at endpoint) bool {
	e := c.table.get(at.id)
	return e != nil && e.addr == at.addr
}
