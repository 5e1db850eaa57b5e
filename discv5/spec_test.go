package discv5_test

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/discv5/wire"
)

// The tests in this file hold the node to the sentences of discv5-wire.md,
// discv5-theory.md and discv5-rationale.md that they quote.

const peerAddr = "198.51.100.7:30303"

// "The maximum size of any packet is 1280 bytes. Implementations should not
// generate or process packets larger than this size." "The minimum size of
// any Discovery v5 packet is 63 bytes. Implementations should reject packets
// smaller than this size."
func TestPacketSizes(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		b, _ := p.random()
		for _, n := range []int{0, 1, 62, 63, 86} {
			p.deliver(p.addr, b[:n])
			p.wantIdle("a cut packet")
		}
		long := append(bytes.Clone(b), make([]byte, 1280-len(b))...)
		p.deliver(p.addr, append(long, 0))
		p.wantIdle("1281 bytes")
		p.deliver(p.addr, long)
		p.wantWhoareyou()
	})
}

// "Implementations should not respond to packets with mismatching protocol-id."
func TestOtherProtocol(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		for i := 16; i < 16+9; i++ { // protocol-id, version, flag
			b, _ := p.random()
			b[i] ^= 0x40
			p.deliver(p.addr, b)
			p.wantIdle("a packet of another protocol")
		}
		p.mask = wire.NewMask([32]byte{1})
		b, _ := p.random()
		p.deliver(p.addr, b)
		p.wantIdle("a packet for another node")
	})
}

// "The nonce part of the packet must be set to the nonce of the message packet
// that caused the WHOAREYOU response." "It first generates a unique id-nonce
// value and includes it in the packet." "otherwise it sets the enr-seq field
// to zero".
func TestWhoareyou(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		seen := map[[16]byte]bool{}
		for range 4 {
			p := r.newPeer(peerAddr)
			b, nonce := p.random()
			p.deliver(p.addr, b)
			got, _ := p.wantWhoareyou()
			if got.Nonce != nonce || got.RecordSeq != 0 {
				t.Errorf("nonce %x, enr-seq %d; want %x, 0", got.Nonce, got.RecordSeq, nonce)
			}
			if len(got.packet) > len(b) {
				t.Errorf("%d bytes answered with %d", len(b), len(got.packet))
			}
			if seen[got.IDNonce] {
				t.Error("an id-nonce was used twice")
			}
			seen[got.IDNonce] = true
			time.Sleep(time.Second)
		}
	})
}

// A second packet while the challenge is pending gets the same challenge, to
// the byte; see docs/spec/discv5.md for why.
func TestWhoareyouIsSentAgain(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		b, _ := p.random()
		p.deliver(p.addr, b)
		_, first := p.wantWhoareyou()
		b, _ = p.random()
		p.deliver(p.addr, b)
		if _, second := p.wantWhoareyou(); second != first {
			t.Errorf("second challenge %x, want %x", second, first)
		}
		p.deliver(p.addr, p.handshake(first, p.record.Bytes(), ping(1)))
		p.wantMessages(wire.KindPong)

		// When half its time is over, it was lost, or is not waited for any
		// more: whoever asks again gets one for what it asks now.
		late := r.newPeer(peerAddr)
		b, _ = late.random()
		late.deliver(late.addr, b)
		_, first = late.wantWhoareyou()
		time.Sleep(discv5.DefaultHandshakeTimeout / 2)
		r.sent()
		b, nonce := late.random()
		late.deliver(late.addr, b)
		got, second := late.wantWhoareyou()
		if got.Nonce != nonce || second == first {
			t.Errorf("WHOAREYOU for %x, want %x", got.Nonce, nonce)
		}
		late.deliver(late.addr, late.handshake(second, late.record.Bytes(), ping(1)))
		late.wantMessages(wire.KindPong)

		// "Node B must also store the A's record and the WHOAREYOU challenge
		// for a short duration": after that it is another one.
		q := r.newPeer(peerAddr)
		b, _ = q.random()
		q.deliver(q.addr, b)
		_, first = q.wantWhoareyou()
		time.Sleep(discv5.DefaultHandshakeTimeout)
		r.sent()
		q.deliver(q.addr, q.handshake(first, q.record.Bytes(), ping(1)))
		q.wantIdle("a handshake after its time")
		b, _ = q.random()
		q.deliver(q.addr, b)
		if _, second := q.wantWhoareyou(); second == first {
			t.Error("an old challenge came again")
		}
	})
}

// "If node B did not have the node record of node A, the handshake message
// packet must contain a node record."
func TestHandshakeWithoutRecord(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		b, _ := p.random()
		p.deliver(p.addr, b)
		_, ch := p.wantWhoareyou()
		p.deliver(p.addr, p.handshake(ch, nil, ping(1)))
		p.wantIdle("a handshake without a record")
	})
}

// "Node B also checks if it has a copy of node A's record. If it does, it also
// includes the sequence number of this record in the challenge packet".
func TestChallengeNamesTheKnownRecord(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.setRecord(77, p.addr)
		if !r.node.AddNode(p.record) {
			t.Fatal("the record does not come into the table")
		}
		r.sent()
		b, _ := p.random()
		p.deliver(p.addr, b)
		got, ch := p.wantWhoareyou()
		if got.RecordSeq != 77 {
			t.Errorf("enr-seq %d, want 77", got.RecordSeq)
		}
		p.deliver(p.addr, p.handshake(ch, nil, ping(1)))
		p.wantMessages(wire.KindPong)
	})
}

// "If the packet contains a node record, B must first validate it by checking
// the record's signature", and it must be A's.
func TestHandshakeWithABadRecord(t *testing.T) {
	inBubble(t, discv5.Config{ChallengesPerIP: -1}, func(r *rig) {
		p, other := r.newPeer(peerAddr), r.newPeer(peerAddr)
		forged := bytes.Clone(p.record.Bytes())
		forged[len(forged)-1] ^= 1
		for name, record := range map[string][]byte{
			"a forged record":           forged,
			"another node's record":     other.record.Bytes(),
			"no RLP":                    {1, 2, 3},
			"a record with a byte more": append(bytes.Clone(p.record.Bytes()), 0),
		} {
			b, _ := p.random()
			p.deliver(p.addr, b)
			_, ch := p.wantWhoareyou()
			p.deliver(p.addr, p.handshake(ch, record, ping(1)))
			p.wantIdle(name)
			p.deliver(p.addr, p.message(ping(2)))
			p.wantWhoareyou()
			time.Sleep(discv5.DefaultHandshakeTimeout)
		}
		if n := len(r.node.Table()); n != 0 {
			t.Errorf("%d nodes in the table", n)
		}
		if s := r.node.Stats(); s.Sessions != 0 {
			t.Errorf("%d sessions", s.Sessions)
		}
	})
}

// "Node B then verifies the id-signature against the identity public key of
// A's record." A wrong one costs nothing but the second try.
func TestHandshakeSignature(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p, thief := r.newPeer(peerAddr), r.newPeer(peerAddr)
		b, _ := p.random()
		p.deliver(p.addr, b)
		_, ch := p.wantWhoareyou()
		// The thief has p's record and ID but not its key.
		thief.codec, thief.id = wire.NewCodec(p.id), p.id
		p.deliver(p.addr, thief.handshake(ch, p.record.Bytes(), ping(1)))
		p.wantIdle("a handshake signed with another key")
		p.deliver(p.addr, p.handshake(ch, p.record.Bytes(), ping(1)))
		p.wantMessages(wire.KindPong)

		q := r.newPeer("198.51.100.8:30303")
		b, _ = q.random()
		q.deliver(q.addr, b)
		_, ch = q.wantWhoareyou()
		thief.codec, thief.id = wire.NewCodec(q.id), q.id
		for range 2 {
			q.deliver(q.addr, thief.handshake(ch, q.record.Bytes(), ping(1)))
		}
		q.deliver(q.addr, q.handshake(ch, q.record.Bytes(), ping(1)))
		q.wantIdle("a third handshake for one challenge")
	})
}

// A handshake is good for one packet.
func TestHandshakeReplay(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		b, _ := p.random()
		p.deliver(p.addr, b)
		_, ch := p.wantWhoareyou()
		hs := p.handshake(ch, p.record.Bytes(), ping(1))
		p.deliver(p.addr, hs)
		p.wantMessages(wire.KindPong)
		before := r.node.Stats()
		p.deliver(p.addr, hs)
		p.wantIdle("a handshake packet again")
		after := r.node.Stats()
		if after.HandshakesIn != before.HandshakesIn || after.UnsolicitedHandshakes != before.UnsolicitedHandshakes+1 {
			t.Errorf("handshakes %d, unsolicited %d", after.HandshakesIn, after.UnsolicitedHandshakes)
		}
		p.deliver(p.addr, p.message(ping(3)))
		p.wantMessages(wire.KindPong)
	})
}

// "Note that WHOAREYOU is only ever valid as a response to a previously sent
// request. If WHOAREYOU is received but no requests are pending, the handshake
// attempt can be ignored."
func TestUnsolicitedWhoareyou(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		ch := wire.NewChallenge(random16(), randomNonce(), random16(), 0)
		p.deliver(p.addr, p.codec.AppendWhoareyou(nil, p.mask, &ch))
		p.wantIdle("WHOAREYOU for no request")

		done := make(chan error, 1)
		go func() {
			_, err := r.node.Ping(r.t.Context(), p.record)
			done <- err
		}()
		probe := p.received()
		if len(probe) != 1 || probe[0].Flag != wire.FlagMessage {
			t.Fatalf("the node sent %+v", probe)
		}
		ch = wire.NewChallenge(random16(), probe[0].Nonce, random16(), 0)
		whoareyou := p.codec.AppendWhoareyou(nil, p.mask, &ch)
		p.deliver(netip.MustParseAddrPort("198.51.100.7:1"), whoareyou)
		p.wantIdle("WHOAREYOU from another endpoint")
		// An answer is no request: a PONG of ours cannot be challenged. And a
		// request is challenged once.
		p.deliver(p.addr, whoareyou)
		if got := p.received(); len(got) != 1 || got[0].Flag != wire.FlagHandshake {
			t.Fatalf("the node sent %+v, want its handshake", got)
		}
		p.deliver(p.addr, whoareyou)
		p.wantIdle("WHOAREYOU for the same request again")
		if err := <-done; !errors.Is(err, discv5.ErrTimeout) {
			t.Errorf("ping without an answer: %v", err)
		}
	})
}

// accept plays the recipient of the node's handshake.
func (p *peer) accept(recordSeq uint64) (hs received) {
	p.t.Helper()
	var probe received
	for _, got := range p.received() {
		probe = got
	}
	if probe.packet == nil || probe.Flag != wire.FlagMessage {
		p.t.Fatalf("no packet to challenge: %+v", probe)
	}
	ch := wire.NewChallenge(random16(), probe.Nonce, random16(), recordSeq)
	p.deliver(p.addr, p.codec.AppendWhoareyou(nil, p.mask, &ch))
	var packets []datagram
	for _, d := range p.sent() {
		if d.addr == p.addr {
			packets = append(packets, d)
		}
	}
	if len(packets) != 1 {
		p.t.Fatalf("the node sent %d packets, want its handshake", len(packets))
	}
	hs.packet = packets[0].b
	msg, err := p.codec.Unmask(hs.packet, &hs.Header)
	if err != nil || hs.Flag != wire.FlagHandshake {
		p.t.Fatalf("the node sent %s, %v", hs.Flag, err)
	}
	if !p.node.LocalRecord().PublicKey().Verify(wire.IDProof(&ch, [33]byte(hs.EphemeralKey), p.id), hs.Signature) {
		p.t.Fatal("the node's id-signature does not verify")
	}
	eph, err := pubKey(hs.EphemeralKey)
	if err != nil {
		p.t.Fatal(err)
	}
	keys := wire.DeriveKeys(p.key.SharedPoint(eph), p.node.ID(), p.id, &ch)
	p.read, p.write = wire.NewAEAD(keys.Initiator), wire.NewAEAD(keys.Recipient)
	pt, err := p.codec.Open(p.read, &hs.Header, hs.packet, msg)
	if err != nil {
		p.t.Fatal(err)
	}
	hs.msg = new(wire.Message)
	if err := hs.msg.Decode(bytes.Clone(pt)); err != nil {
		p.t.Fatal(err)
	}
	return hs
}

// "If the sequence number in the challenge is lower, it includes its record
// into the handshake message packet." "If enr-seq is zero, the record must be
// sent."
func TestOwnRecordInHandshake(t *testing.T) {
	for _, tt := range []struct {
		name string
		seq  func(own uint64) uint64
		want bool
	}{
		{"zero", func(uint64) uint64 { return 0 }, true},
		{"older", func(own uint64) uint64 { return own - 1 }, true},
		{"the same", func(own uint64) uint64 { return own }, false},
		{"newer", func(own uint64) uint64 { return own + 1 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, discv5.Config{}, func(r *rig) {
				p := r.newPeer(peerAddr)
				done := make(chan error, 1)
				go func() {
					_, err := r.node.Ping(r.t.Context(), p.record)
					done <- err
				}()
				hs := p.accept(tt.seq(r.node.LocalRecord().Seq()))
				if got := len(hs.Record) > 0; got != tt.want {
					t.Errorf("record sent: %t, want %t", got, tt.want)
				}
				p.deliver(p.addr, p.message(wire.Message{Kind: wire.KindPong, ReqID: hs.msg.ReqID, Seq: 1, To: r.conn.addr}))
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// "implementations must ensure that session secrets and the handshake are tied
// to a specific UDP endpoint".
func TestSessionIsTiedToItsEndpoint(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		for _, addr := range []string{"198.51.100.7:30304", "198.51.100.8:30303"} {
			b := p.message(ping(2))
			p.deliver(netip.MustParseAddrPort(addr), b)
			got := r.sent()
			if len(got) != 1 || got[0].addr.String() != addr || p.parse(got[0]).Flag != wire.FlagWhoareyou {
				t.Errorf("from %s: %+v, want WHOAREYOU to there", addr, got)
			}
		}
		p.deliver(p.addr, p.message(ping(3)))
		p.wantMessages(wire.KindPong)
	})
}

// A packet that cannot be decrypted is challenged, and the session there is
// lives on until a handshake has replaced it.
func TestSessionSurvivesJunk(t *testing.T) {
	inBubble(t, discv5.Config{ChallengesPerIP: -1}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		for range 10 {
			b, _ := p.random()
			p.deliver(p.addr, b)
			p.wantWhoareyou()
			p.deliver(p.addr, p.message(ping(2)))
			p.wantMessages(wire.KindPong)
		}
	})
}

// "If decryption/authentication succeeds, node B's identity is verified and
// node A also considers the new session keys valid": not before. Whoever can
// see and forge packets cannot end a session with a WHOAREYOU.
func TestSessionSurvivesAForgedChallenge(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		done := make(chan error, 1)
		ask := func() {
			go func() {
				_, err := r.node.Ping(r.t.Context(), p.record)
				done <- err
			}()
		}
		var request *wire.Message
		ask()
		got := p.received()
		for _, m := range got {
			if m.msg != nil && m.msg.Kind == wire.KindPing {
				request = m.msg
				ch := wire.NewChallenge(random16(), m.Nonce, random16(), 0)
				p.deliver(p.addr, p.codec.AppendWhoareyou(nil, p.mask, &ch))
			}
		}
		if request == nil {
			t.Fatal("no PING was sent")
		}
		// The peer knows nothing of the challenge and answers under the keys
		// that it has.
		p.deliver(p.addr, p.message(wire.Message{Kind: wire.KindPong, ReqID: request.ReqID, Seq: 1, To: r.conn.addr}))
		if err := <-done; err != nil {
			t.Error(err)
		}
		p.received()
		p.deliver(p.addr, p.message(ping(5)))
		p.wantMessages(wire.KindPong)
	})
}

// "it is strongly recommended to generate them by encoding the current
// outgoing message count into the first 32 bits of the nonce and filling the
// remaining 64 bits with random data". "masking-iv = uint128 -- random data
// unique to packet".
func TestNoncesAreUnique(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		nonces, ivs := map[wire.Nonce]bool{}, map[[16]byte]bool{}
		var last uint32
		for i := range 50 {
			p.deliver(p.addr, p.message(ping(uint64(i))))
			for _, got := range p.received() {
				count := uint32(got.Nonce[0])<<24 | uint32(got.Nonce[1])<<16 | uint32(got.Nonce[2])<<8 | uint32(got.Nonce[3])
				if i > 0 && count != last+1 {
					t.Errorf("count %d after %d", count, last)
				}
				last = count
				if iv := [16]byte(got.packet); ivs[iv] || nonces[got.Nonce] {
					t.Error("a masking-iv or nonce was used twice")
				} else {
					ivs[iv], nonces[got.Nonce] = true, true
				}
			}
		}
	})
}
