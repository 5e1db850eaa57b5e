package discv5_test

import (
	"bytes"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/internal/simnet"
)

// siege is a node under attack.
type siege struct {
	t    *testing.T
	net  *simnet.Net
	node *discv5.Node
	at   netip.AddrPort

	packets, bytes, largest atomic.Int64 // that the node has sent

	served sync.WaitGroup
}

var castle = netip.MustParseAddrPort("192.0.2.1:30303")

// besiege runs f in a bubble with a node whose Config is cfg; key, socket and
// endpoint are set here.
func besiege(t *testing.T, cfg discv5.Config, f func(*testing.T, *siege)) {
	t.Helper()
	cfg.Advertise = []netip.AddrPort{castle}
	siegeOf(t, cfg, func(c *simnet.UDPConn) discv5.PacketConn { return c }, f)
}

// siegeOf is besiege with the endpoint left open and the socket dressed up.
func siegeOf(t *testing.T, cfg discv5.Config, dress func(*simnet.UDPConn) discv5.PacketConn, f func(*testing.T, *siege)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		s := &siege{t: t, at: castle}
		defer s.served.Wait() // a bubble's clock stops when its root ends
		s.net = simnet.New(simnet.Config{Seed: 1, Link: simnet.Delay(10 * time.Millisecond), Tap: s.count, Queue: 4096})
		defer s.net.Close()
		conn, err := s.net.Host(castle.Addr()).ListenUDP(castle.Port())
		if err != nil {
			t.Fatal(err)
		}
		cfg.Key, cfg.Conns = testKey(t, 0), []discv5.PacketConn{dress(conn)}
		if s.node, err = discv5.Listen(cfg); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.node.Close(); err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(time.Second) // it has looked around
		f(t, s)
	})
}

// serve lets p answer by itself from now on; see rawPeer.serve. The returned
// function ends that.
func (s *siege) serve(p *rawPeer, answer func(*wire.Message, netip.AddrPort) bool) (halt func()) {
	_ = p.conn.SetReadDeadline(time.Time{}) // an open socket
	done := make(chan struct{})
	s.served.Go(func() {
		defer close(done)
		p.serve(answer)
	})
	return func() {
		_ = p.conn.SetReadDeadline(time.Now()) // an open socket
		<-done
	}
}

func (s *siege) count(d simnet.Datagram) simnet.Fate {
	if d.From == s.at {
		s.packets.Add(1)
		s.bytes.Add(int64(len(d.Payload)))
		s.largest.Store(max(s.largest.Load(), int64(len(d.Payload))))
	}
	return simnet.Pass
}

// sent returns how many packets the node has sent since the last call.
func (s *siege) sent() int64 { return s.packets.Swap(0) }

// peer is attacker or victim number n (from 1), each in a /24 of its own.
func (s *siege) peer(n int) *rawPeer {
	s.t.Helper()
	return newRawPeer(s.t, s.net, n, worldAddr(n), s.node.LocalRecord())
}

// known is a peer with a session.
func (s *siege) known(n int) *rawPeer {
	s.t.Helper()
	p := s.peer(n)
	p.connect()
	return p
}

// "a packet from a stranger costs at most one WHOAREYOU, never larger than
// what it answers" (threats D1; devp2p discv5-wire.md, "WHOAREYOU Packet").
func TestStrangerGetsOneSmallAnswer(t *testing.T) {
	besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
		p := s.peer(1)
		for _, tt := range []struct {
			name    string
			packet  func() []byte
			answers int64
		}{
			{"message packet", p.random, 1},
			{"empty message", func() []byte { return p.random()[:p.headerLen()] }, 0},
			{"one byte too short", func() []byte { return p.random()[:wire.MinPacket-1] }, 0},
			{"empty", func() []byte { return nil }, 0},
			{"too long", func() []byte { return append(p.random(), make([]byte, wire.MaxPacket)...) }, 0},
			{"not masked for this node", func() []byte { b := p.random(); b[16] ^= 1; return b }, 0},
			{"WHOAREYOU that nobody asked for", func() []byte {
				ch := wire.NewChallenge([16]byte{1}, wire.Nonce{2}, [16]byte{3}, 0)
				return p.codec.AppendWhoareyou(nil, p.mask, &ch)
			}, 0},
			{"handshake that nobody asked for", func() []byte {
				ch := wire.NewChallenge([16]byte{1}, wire.Nonce{2}, [16]byte{3}, 0)
				return p.handshake(ch, &wire.Message{Kind: wire.KindPing}, shake{})
			}, 0},
		} {
			time.Sleep(2 * time.Second) // no challenge is pending, no bucket empty
			s.sent()
			s.bytes.Store(0)
			packet := tt.packet()
			s.net.Inject(p.conn.AddrPort(), s.at, packet)
			time.Sleep(time.Second)
			if got := s.sent(); got != tt.answers {
				t.Errorf("%s: %d packets in answer, want %d", tt.name, got, tt.answers)
			}
			if got := s.bytes.Load(); got > int64(len(packet)) {
				t.Errorf("%s: %d bytes in answer to %d", tt.name, got, len(packet))
			}
		}
	})
}

// headerLen is the length of a message packet without its message.
func (p *rawPeer) headerLen() int { return wire.MinMessagePacket - 16 }

// "at most 5 challenges per second per source IP, then silence; 500 in total".
func TestChallengesAreRationed(t *testing.T) {
	const span = 10 // seconds
	t.Run("one address", func(t *testing.T) {
		besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
			p := s.peer(1)
			s.sent()
			for i := range span * 1000 {
				_ = p.conn.Close() // never fails
				from := netip.AddrPortFrom(worldAddr(1).Addr(), uint16(1024+i%50_000))
				s.net.Inject(from, s.at, p.random())
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Second)
			if got := s.sent(); got == 0 || got > 5*(span+1) {
				t.Errorf("%d challenges in %d s, want at most 5 a second", got, span)
			}
		})
	})
	t.Run("many addresses", func(t *testing.T) {
		besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
			p := s.peer(1)
			s.sent()
			for i := range span * 2000 {
				s.net.Inject(worldAddr(1000+i), s.at, p.random())
				time.Sleep(time.Second / 2000)
			}
			time.Sleep(time.Second)
			if got := s.sent(); got < 500 || got > 500*(span+1) {
				t.Errorf("%d challenges in %d s, want at most 500 a second", got, span)
			}
			if got := s.largest.Load(); got > wire.MinPacket {
				t.Errorf("an answer of %d bytes, want %d", got, wire.MinPacket)
			}
		})
	})
}

// A second packet while a challenge is pending gets the identical WHOAREYOU:
// nothing is computed or kept for it.
func TestPendingChallengeIsRepeated(t *testing.T) {
	besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
		p := s.peer(1)
		first := p.challenged()
		if again := p.challenged(); again != first {
			t.Errorf("the second challenge differs from the first")
		}
	})
}

// "a handshake's record must hash to the id it claims": nobody speaks in
// another node's name.
func TestHandshakeInAnothersName(t *testing.T) {
	for _, tt := range []struct {
		name string
		how  func(p, victim *rawPeer) shake
	}{
		{"own record, another's id", func(_, victim *rawPeer) shake { return shake{src: &victim.id} }},
		{"another's record and id", func(_, victim *rawPeer) shake {
			return shake{src: &victim.id, record: victim.record.Bytes()}
		}},
		{"another's record", func(_, victim *rawPeer) shake { return shake{record: victim.record.Bytes()} }},
		{"proof by another key", func(_, victim *rawPeer) shake { return shake{signer: victim.key} }},
		{"no record, none known", func(_, _ *rawPeer) shake { return shake{record: []byte{}} }},
		{"a record that is none", func(_, _ *rawPeer) shake { return shake{record: []byte{0xc3, 1, 2, 3}} }},
		{"a message that does not decrypt", func(_, _ *rawPeer) shake { return shake{garbage: true} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
				victim, p := s.known(1), s.peer(2)
				ch := p.challenged()
				how := tt.how(p, victim)
				ping := &wire.Message{Kind: wire.KindPing, ReqID: p.reqID()}
				p.sendRaw(p.handshake(ch, ping, how))
				if m := p.tryAwait(wire.KindPong, ping.ReqID); m != nil {
					t.Errorf("got %v, want nothing", m.Kind)
				}
				if p.ping() {
					t.Error("there is a session under the keys of a bad handshake")
				}
				if !victim.ping() {
					t.Error("the victim's session is gone")
				}
				for _, r := range s.node.Neighbours(enr.ID(p.id), 16, false) {
					if r.ID() == enr.ID(p.id) {
						t.Error("a node without a session is in the table")
					}
				}
			})
		})
	}
}

// "handshakes verified only with a live challenge": an answer that comes
// after the challenge has died is not looked at.
func TestHandshakeAfterItsTime(t *testing.T) {
	besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
		p := s.peer(1)
		ch := p.challenged()
		time.Sleep(3 * time.Second) // HandshakeTimeout is 2 s
		ping := &wire.Message{Kind: wire.KindPing, ReqID: p.reqID()}
		p.sendRaw(p.handshake(ch, ping, shake{}))
		if p.tryAwait(wire.KindPong, ping.ReqID) != nil {
			t.Error("a handshake was accepted after its challenge had died")
		}
		p.connect() // and the next one is as good as ever
	})
}

// A challenge is used up by a session: the same handshake packet again does
// not make another one.
func TestHandshakeIsNotReplayed(t *testing.T) {
	besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
		p := s.peer(1)
		ping := &wire.Message{Kind: wire.KindPing, ReqID: p.reqID()}
		packet := p.handshake(p.challenged(), ping, shake{})
		p.sendRaw(packet)
		p.await(wire.KindPong, ping.ReqID)
		p.sendRaw(packet)
		if p.tryAwait(wire.KindPong, ping.ReqID) != nil {
			t.Error("the replayed handshake was answered")
		}
		if !p.ping() {
			t.Error("the session is gone")
		}
	})
}

// "a session is kept until its successor has proved itself": what a spoofer
// can send in a peer's name does not disturb the peer.
func TestSpoofedJunkKeepsTheSession(t *testing.T) {
	besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
		victim := s.known(1)
		for range 100 {
			s.net.Inject(victim.conn.AddrPort(), s.at, victim.random())
			time.Sleep(100 * time.Millisecond)
		}
		if !victim.ping() {
			t.Error("the session is gone, or its peer is banned")
		}
		bad := victim.handshake // a spoofer's handshake for the challenge that the junk called up
		keysRead, keysWrite := victim.read, victim.write
		ch := victim.challenged()
		packet := bad(ch, &wire.Message{Kind: wire.KindPing, ReqID: victim.reqID()}, shake{signer: testKey(t, 99)})
		victim.read, victim.write = keysRead, keysWrite
		for range 10 {
			s.net.Inject(victim.conn.AddrPort(), s.at, packet)
		}
		time.Sleep(time.Second)
		if !victim.ping() {
			t.Error("a forged handshake took the session away")
		}
	})
}

// "replayed, truncated, bit-flipped, wrong-id, wrong-nonce packets change no
// state": after a thousand of them the node has sent at most challenges, and
// both sides still speak under the same keys.
func TestMangledPacketsChangeNothing(t *testing.T) {
	besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
		member := s.known(2)
		s.serve(member, nil)
		time.Sleep(10 * time.Second) // it has been found alive
		p := s.peer(1)
		p.record = signedRecord(t, p.key, 1, netip.AddrPort{}) // never to be pinged
		p.connect()
		good := p.seal(&wire.Message{Kind: wire.KindTalkReq, ReqID: p.reqID(), Protocol: []byte("p"), Payload: []byte("hello")})
		before := tableIDs(s.node)
		seq := s.node.LocalRecord().Seq()
		mangle := []func(i int) []byte{
			func(i int) []byte { return good[:i%len(good)] },
			func(i int) []byte { b := bytes.Clone(good); b[i%len(b)] ^= 1 << (i % 8); return b },
			func(i int) []byte { return append(bytes.Clone(good), byte(i)) },
			func(int) []byte { return p.lastSent }, // replayed
		}
		for i := range 1000 {
			s.net.Inject(p.conn.AddrPort(), s.at, mangle[i%len(mangle)](i))
			if i%20 == 0 {
				time.Sleep(time.Second)
			}
		}
		for p.readRaw(time.Second) != nil { // challenges, an answer to the replayed PING
		}
		if !p.ping() {
			t.Error("the session is gone")
		}
		if after := tableIDs(s.node); after != before {
			t.Errorf("the table was %v, is %v", before, after)
		}
		if got := s.node.LocalRecord().Seq(); got != seq {
			t.Errorf("the own record's number was %d, is %d", seq, got)
		}
	})
}

// tableIDs is the set of nodes in the table, as text.
func tableIDs(n *discv5.Node) string {
	var b bytes.Buffer
	for _, r := range n.Neighbours(n.ID(), 1000, false) {
		b.WriteString(r.ID().String()[:8] + " ")
	}
	return b.String()
}
