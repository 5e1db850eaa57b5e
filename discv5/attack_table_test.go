package discv5_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/internal/simnet"
)

// seats are the nodes in the table that answer to the ids.
func (s *siege) seats(ids map[enr.ID]bool) (n int, perBucket map[int]int) {
	perBucket = map[int]int{}
	for _, r := range s.node.Neighbours(s.node.ID(), 10_000, false) {
		if ids[r.ID()] {
			n++
			perBucket[enr.LogDistance(s.node.ID(), r.ID())]++
		}
	}
	return n, perBucket
}

// alive waits until nothing new is found alive.
const alive = 2 * time.Minute

// "10,000 sybils in one /24 get ≤ 10 table seats and ≤ 2 per bucket, and 20
// honest /24s keep ≥ 80 % of theirs."
func TestSybilsInOneNetwork(t *testing.T) {
	sybils := 10_000
	if testing.Short() || raceEnabled {
		sybils = 250
		t.Log("250 sybils instead of 10,000: -short or -race")
	}
	besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
		honest := map[enr.ID]bool{}
		for n := range 40 { // two in each of 20 /24s
			base := worldAddr(1 + n/2).Addr().As4()
			base[3] = byte(1 + n%2)
			p := newRawPeer(t, s.net, 1+n, netip.AddrPortFrom(netip.AddrFrom4(base), 30303), s.node.LocalRecord())
			p.connect()
			honest[enr.ID(p.id)] = true
			s.serve(p, nil)
		}
		time.Sleep(alive)
		before, _ := s.seats(honest)
		if before < 30 {
			t.Errorf("%d of 40 honest nodes have a seat before the attack", before)
		}

		evil := map[enr.ID]bool{}
		hosts := map[netip.Addr]*simnet.Host{}
		for n := range sybils {
			a := sybilAddr(n % 250)
			if hosts[a] == nil {
				hosts[a] = s.net.Host(a)
			}
			p := rawPeerOn(t, hosts[a], 1000+n, uint16(2000+n/250), s.node.LocalRecord())
			p.connect()
			evil[enr.ID(p.id)] = true
			s.serve(p, nil)
		}
		time.Sleep(10 * time.Minute)
		got, buckets := s.seats(evil)
		if got > 10 {
			t.Errorf("sybils have %d seats, want at most 10", got)
		}
		for d, n := range buckets {
			if n > 2 {
				t.Errorf("sybils have %d seats at distance %d, want at most 2", n, d)
			}
		}
		after, _ := s.seats(honest)
		t.Logf("sybils %d seats; honest %d, before %d", got, after, before)
		if after*10 < before*8 {
			t.Errorf("honest nodes have %d seats of %d, want 80 %%", after, before)
		}
	})
}

func sybilAddr(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 7, byte(1 + n)}) }

// "sessions of table members are not evicted by strangers."
func TestStrangersDoNotEvictMembers(t *testing.T) {
	const members, strangers = 8, 200
	besiege(t, discv5.Config{Sessions: 32}, func(t *testing.T, s *siege) {
		var inside []*rawPeer
		ids := map[enr.ID]bool{}
		for n := range members {
			p := s.known(1 + n)
			inside = append(inside, p)
			ids[enr.ID(p.id)] = true
		}
		var halts []func()
		for _, p := range inside {
			halts = append(halts, s.serve(p, nil))
		}
		time.Sleep(20 * time.Second) // they have been found alive
		if n, _ := s.seats(ids); n != members {
			t.Fatalf("%d of %d members are in the table", n, members)
		}
		for n := range strangers {
			p := s.peer(100 + n)
			p.record = signedRecord(t, p.key, 1, netip.AddrPort{}) // nobody can dial it: no seat
			p.connect()
		}
		for i, p := range inside {
			halts[i]()
			if !p.ping() {
				t.Errorf("member %d has lost its session to strangers", i)
			}
		}
	})
}

// anyConn is a socket bound to the unspecified address, as most are: its node
// learns from PONGs where it is.
type anyConn struct{ *simnet.UDPConn }

func (c anyConn) LocalAddr() net.Addr {
	return &net.UDPAddr{IP: net.IPv4zero, Port: int(c.AddrPort().Port())}
}

// "PONG liars from one /24 cannot move the ENR."
func TestPongLiars(t *testing.T) {
	lie := netip.MustParseAddrPort("203.0.113.9:666")
	siegeOf(t, discv5.Config{}, func(c *simnet.UDPConn) discv5.PacketConn { return anyConn{c} }, func(t *testing.T, s *siege) {
		liar := func(p *rawPeer) func(*wire.Message, netip.AddrPort) bool {
			return func(m *wire.Message, _ netip.AddrPort) bool {
				if m.Kind != wire.KindPing {
					return false
				}
				p.reply(&wire.Message{Kind: wire.KindPong, ReqID: m.ReqID, Seq: 1, To: lie})
				return true
			}
		}
		for n := range 50 {
			p := newRawPeer(t, s.net, 500+n, netip.AddrPortFrom(sybilAddr(n), 30303), s.node.LocalRecord())
			p.connect()
			s.serve(p, liar(p))
		}
		time.Sleep(20 * time.Minute)
		if ep, ok := s.node.LocalRecord().UDPEndpoint4(); ok {
			t.Errorf("liars of one /24 have put %v into the record", ep)
		}
		for n := range 30 { // each in a /24 of its own
			p := s.known(1 + n)
			s.serve(p, nil)
		}
		time.Sleep(20 * time.Minute)
		if ep, ok := s.node.LocalRecord().UDPEndpoint4(); !ok || ep != castle {
			t.Errorf("30 honest networks say %v, the record says %v", castle, ep)
		}
	})
}

// "NODES split by packet size with total bounded and checked; requested
// distances re-checked; loopback and private only towards the same kind."
func TestNodesThatLie(t *testing.T) {
	far := func(n int, want bool) func(*siege) []byte { // a record at distance 256 or not
		return func(s *siege) []byte {
			for i := 10_000 + 100*n; ; i++ {
				r := signedRecord(s.t, testKey(s.t, i), 1, worldAddr(i))
				if (enr.LogDistance(r.ID(), enr.ID(s.liarID())) == 256) == want {
					return r.Bytes()
				}
			}
		}
	}
	at := func(ep string) func(*siege) []byte {
		return func(s *siege) []byte {
			for i := 20_000; ; i++ {
				r := signedRecord(s.t, testKey(s.t, i), 1, netip.MustParseAddrPort(ep))
				if enr.LogDistance(r.ID(), enr.ID(s.liarID())) == 256 {
					return r.Bytes()
				}
			}
		}
	}
	for _, tt := range []struct {
		name    string
		record  func(*siege) []byte
		parts   int // packets sent, each with the record
		total   uint64
		otherID bool
		want    int
	}{
		{name: "an honest one", record: far(0, true), parts: 1, total: 1, want: 1},
		{name: "the same record five times", record: far(0, true), parts: 5, total: 5, want: 1},
		{name: "another distance than asked for", record: far(0, false), parts: 1, total: 1},
		{name: "a private address", record: at("10.0.0.1:30303"), parts: 1, total: 1},
		{name: "a loopback address", record: at("127.0.0.1:30303"), parts: 1, total: 1},
		{name: "a link-local address", record: at("169.254.169.254:30303"), parts: 1, total: 1},
		{name: "a multicast address", record: at("224.0.0.1:30303"), parts: 1, total: 1},
		{name: "the unspecified address", record: at("0.0.0.0:30303"), parts: 1, total: 1},
		{name: "another request's id", record: far(0, true), parts: 1, total: 1, otherID: true},
		{name: "255 packets announced, 40 sent", record: far(0, true), parts: 40, total: 255, want: 1},
		{name: "2^64-1 packets announced", record: far(0, true), parts: 1, total: 1<<64 - 1, want: 1},
		{name: "a bad signature", record: func(s *siege) []byte {
			b := append([]byte(nil), far(0, true)(s)...)
			b[10] ^= 1
			return b
		}, parts: 1, total: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
				p := s.known(1)
				record := tt.record(s)
				s.serve(p, func(m *wire.Message, _ netip.AddrPort) bool {
					if m.Kind != wire.KindFindNode || len(m.Distances) != 1 || m.Distances[0] != 256 {
						return false
					}
					id := m.ReqID
					if tt.otherID {
						id = wire.NewReqID(12345)
					}
					for range tt.parts {
						p.reply(&wire.Message{Kind: wire.KindNodes, ReqID: id, Total: tt.total, Records: [][]byte{record}})
						time.Sleep(300 * time.Millisecond)
					}
					return true
				})
				start := time.Now()
				found, _ := s.node.FindNode(t.Context(), p.record, 256) // an error is as good as nothing
				if len(found) != tt.want {
					t.Errorf("%d records, want %d", len(found), tt.want)
				}
				if d := time.Since(start); d > 6*time.Second {
					t.Errorf("the request took %v: it must end by its own deadline", d)
				}
			})
		})
	}
}

// liarID is the id of peer 1.
func (s *siege) liarID() [32]byte { return signedRecord(s.t, testKey(s.t, 1), 1, worldAddr(1)).ID() }

// "unsolicited and late answers dropped and counted".
func TestAnswersNobodyAskedFor(t *testing.T) {
	besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
		p := s.known(1)
		before := tableIDs(s.node)
		other := signedRecord(t, testKey(t, 50), 1, worldAddr(50))
		for i := range uint64(200) {
			p.send(&wire.Message{Kind: wire.KindNodes, ReqID: wire.NewReqID(i), Total: 1, Records: [][]byte{other.Bytes()}})
			p.send(&wire.Message{Kind: wire.KindPong, ReqID: wire.NewReqID(i), Seq: 99, To: worldAddr(7)})
			p.send(&wire.Message{Kind: wire.KindTalkResp, ReqID: wire.NewReqID(i), Payload: []byte("x")})
		}
		time.Sleep(time.Second)
		if !p.ping() {
			t.Error("the session is gone")
		}
		if after := tableIDs(s.node); after != before {
			t.Errorf("the table was %v, is %v", before, after)
		}
	})
}

// A node that changes its record to a victim's address gets it one packet at
// most: anybody can name any address in a record, and that nobody answers
// there is found out by asking once.
func TestRecordThatPointsAtAVictim(t *testing.T) {
	victim := netip.MustParseAddrPort("203.0.113.5:53")
	besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
		conn, err := s.net.Host(victim.Addr()).ListenUDP(victim.Port())
		if err != nil {
			t.Fatal(err)
		}
		for n := range 16 {
			p := s.known(1 + n)
			p.record = signedRecord(t, p.key, 2, victim)
			s.serve(p, nil)
			p.reply(&wire.Message{Kind: wire.KindPing, ReqID: wire.NewReqID(77), Seq: 2})
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Minute)) // an open socket
		b := make([]byte, 2048)
		got := 0
		for {
			if _, _, err := conn.ReadFromUDPAddrPort(b); err != nil {
				break
			}
			got++
		}
		if got > 16 {
			t.Errorf("the victim got %d packets of 16 nodes that name its address, want one of each at most", got)
		}
	})
}

// One peer's flood of TALKREQ with a handler that never returns in time leaves
// the others' PING alone.
func TestTalkFlood(t *testing.T) {
	pings := 100
	if testing.Short() || raceEnabled {
		pings = 25
		t.Log("a flood of 2 s instead of 7: -short or -race")
	}
	besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
		err := s.node.RegisterTalkProtocol("slow", func(ctx context.Context, _ discv5.TalkRequest) []byte {
			<-ctx.Done()
			return []byte("late")
		})
		if err != nil {
			t.Fatal(err)
		}
		flooder, other := s.known(1), s.known(2)
		stop := make(chan struct{})
		go func() {
			for i := uint64(0); ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Second / 5000):
				}
				flooder.reply(&wire.Message{Kind: wire.KindTalkReq, ReqID: wire.NewReqID(i), Protocol: []byte("slow"), Payload: []byte("x")})
			}
		}()
		for range pings {
			start := time.Now()
			if !other.ping() {
				t.Error("a PING was not answered")
			} else if d := time.Since(start); d > 50*time.Millisecond {
				t.Errorf("a PING took %v of 20 ms on the wire", d)
			}
			time.Sleep(50 * time.Millisecond)
		}
		close(stop)
	})
}

// A burst of requests that a handler can serve in its time is served: the
// bound on handlers at work is no bound on what a peer may have in flight.
func TestTalkBurst(t *testing.T) {
	besiege(t, discv5.Config{}, func(t *testing.T, s *siege) {
		err := s.node.RegisterTalkProtocol("quick", func(_ context.Context, r discv5.TalkRequest) []byte {
			time.Sleep(time.Millisecond)
			return r.Payload
		})
		if err != nil {
			t.Fatal(err)
		}
		p := s.known(1)
		const burst = 200
		for i := range uint64(burst) {
			p.send(&wire.Message{Kind: wire.KindTalkReq, ReqID: wire.NewReqID(1000 + i), Protocol: []byte("quick"), Payload: []byte("x")})
		}
		answered := 0
		for packet := p.readRaw(answer); packet != nil; packet = p.readRaw(answer) {
			if m := p.open(packet); m != nil && m.Kind == wire.KindTalkResp && string(m.Payload) == "x" {
				answered++
			}
		}
		if answered != burst {
			t.Errorf("%d of %d requests were answered", answered, burst)
		}
	})
}
