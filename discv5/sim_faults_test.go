package discv5_test

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/internal/simnet"
)

// faultSize is how many nodes the networks have to which things happen.
func faultSize() int {
	if testing.Short() || raceEnabled {
		return 18
	}
	return 60
}

// settled runs f on a network that has had five minutes.
func settled(t *testing.T, f func(*testing.T, *world)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.grow(faultSize())
		time.Sleep(5 * time.Minute)
		f(t, w)
	})
}

func (w *world) wantRecall(when string, want float64) {
	w.t.Helper()
	l := w.sample(20)
	w.t.Logf("%s: %v", when, l)
	if l.recall < want {
		w.t.Errorf("%s: recall %.3f, want %.3f", when, l.recall, want)
	}
}

// A twentieth of all packets lost costs time, not results.
func TestLookupsUnderLoss(t *testing.T) {
	settled(t, func(_ *testing.T, w *world) {
		w.net.SetLink(simnet.Same(simnet.Link{Latency: oneWay, Jitter: 2 * oneWay, Loss: 0.05}))
		time.Sleep(5 * time.Minute)
		w.wantRecall("with 5 % loss", 0.95)
	})
}

// A third of the nodes vanish without a word; the others forget them and find
// each other.
func TestLookupsAfterChurn(t *testing.T) {
	settled(t, func(t *testing.T, w *world) {
		gone := len(w.nodes) / 3
		for _, n := range w.nodes[len(w.nodes)-gone:] {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
		w.nodes = w.nodes[:len(w.nodes)-gone]
		w.wantRecall("at once", 0.90)
		time.Sleep(10 * time.Minute)
		w.wantRecall("ten minutes after", 0.99)
		alive, dead := 0, 0
		for _, n := range w.nodes {
			for _, e := range n.Table() {
				switch {
				case e.Alive && w.has(e.Record.ID()):
					alive++
				case e.Alive:
					dead++
				}
			}
		}
		if dead*20 > alive {
			t.Errorf("ten minutes after, %d of the nodes counted as alive are gone and %d are there", dead, alive)
		}
	})
}

func (w *world) has(id [32]byte) bool {
	for _, n := range w.nodes {
		if n.ID() == id {
			return true
		}
	}
	return false
}

// Two halves that do not hear each other for five minutes are one network
// again soon after.
func TestPartitionHeals(t *testing.T) {
	settled(t, func(_ *testing.T, w *world) {
		half := map[netip.Addr]bool{}
		for i := range len(w.nodes) / 2 {
			half[worldAddr(i).Addr()] = true
		}
		w.net.SetLink(simnet.Partition(simnet.Delay(oneWay), func(a netip.Addr) bool { return half[a] }))
		time.Sleep(5 * time.Minute)
		w.net.SetLink(simnet.Delay(oneWay))
		time.Sleep(10 * time.Minute)
		w.wantRecall("ten minutes after healing", 0.97)
	})
}

// Nobody answers a node whose own link is down: it must not take that for the
// death of all others.
func TestOwnLinkDown(t *testing.T) {
	settled(t, func(t *testing.T, w *world) {
		victim := w.nodes[len(w.nodes)-1]
		at := worldAddr(len(w.nodes) - 1).Addr()
		before := victim.Stats().TableNodes
		w.net.SetLink(func(from, to netip.Addr) simnet.Link {
			return simnet.Link{Latency: oneWay, Down: from == at || to == at}
		})
		time.Sleep(5 * time.Minute)
		if after := victim.Stats().TableNodes; after*10 < before*8 {
			t.Errorf("the table fell from %d to %d nodes while the own link was down", before, after)
		}
		w.net.SetLink(simnet.Delay(oneWay))
		time.Sleep(time.Minute)
		found, err := victim.Lookup(t.Context(), w.nodes[1].ID())
		if err != nil || len(found) == 0 || found[0].ID() != w.nodes[1].ID() {
			t.Errorf("a minute after the link came back a lookup finds %d nodes (%v)", len(found), err)
		}
	})
}

// A brokenConn is a socket whose interface goes down and comes up again: until
// then each call fails as the system's do.
type brokenConn struct {
	*simnet.UDPConn
	down atomic.Bool
}

func (c *brokenConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	if c.down.Load() {
		return 0, netip.AddrPort{}, &net.OpError{Op: "read", Net: "udp", Err: syscall.ECONNREFUSED}
	}
	return c.UDPConn.ReadFromUDPAddrPort(b)
}

func (c *brokenConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if c.down.Load() {
		return 0, &net.OpError{Op: "write", Net: "udp", Err: syscall.ENETUNREACH}
	}
	return c.UDPConn.WriteToUDPAddrPort(b, to)
}

// A socket that fails for a while ends nothing: requests time out, and go
// again when it is back.
func TestSocketFails(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		friend := w.join()
		at := worldAddr(1)
		conn, err := w.net.Host(at.Addr()).ListenUDP(at.Port())
		if err != nil {
			t.Fatal(err)
		}
		broken := &brokenConn{UDPConn: conn}
		n, err := discv5.Listen(discv5.Config{
			Key: testKey(t, 1), Conns: []discv5.PacketConn{broken}, Advertise: []netip.AddrPort{at},
			Bootnodes: []*enr.Record{friend.LocalRecord()},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.nodes = append(w.nodes, n)
		time.Sleep(time.Minute)
		w.net.SetLink(func(_, to netip.Addr) simnet.Link { return simnet.Link{Latency: oneWay, Down: to == at.Addr()} })
		broken.down.Store(true)
		if _, err := n.Ping(t.Context(), friend.LocalRecord()); !errors.Is(err, discv5.ErrTimeout) {
			t.Errorf("ping over a socket that fails: %v, want %v", err, discv5.ErrTimeout)
		}
		time.Sleep(10 * time.Minute)
		w.net.SetLink(simnet.Delay(oneWay))
		broken.down.Store(false)
		for from, to := range map[*discv5.Node]*discv5.Node{n: friend, friend: n} {
			if _, err := from.Ping(t.Context(), to.LocalRecord()); err != nil {
				t.Errorf("ping over a socket that is back: %v", err)
			}
		}
		if s := n.Stats(); s.PacketsUnsent == 0 {
			t.Error("packets that the socket refused are not counted")
		}
	})
}

// A node that starts while its bootnodes are away, for longer than it refreshes
// its table otherwise, finds them soon after they are back; and again when all
// the others were away.
func TestBootnodesComeLate(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		boot := w.join()
		away := func(from, to netip.Addr) simnet.Link {
			return simnet.Link{Latency: oneWay, Down: from == worldAddr(0).Addr() || to == worldAddr(0).Addr()}
		}
		w.net.SetLink(away)
		n := w.start(1, discv5.Config{Bootnodes: []*enr.Record{boot.LocalRecord()}})
		w.nodes = append(w.nodes, n)
		for range 2 {
			w.net.SetLink(away)
			time.Sleep(20 * time.Minute)
			w.net.SetLink(simnet.Delay(oneWay))
			time.Sleep(20 * time.Second)
			if !hasAlive(n, boot.ID()) {
				t.Error("20 s after it came back the bootnode is not known to be alive")
			}
		}
	})
}

// A node behind a NAT learns from its peers where it is seen, says so in its
// record, and is found there; unless every peer sees it at another port.
func TestRecordBehindNAT(t *testing.T) {
	settled(t, func(t *testing.T, w *world) {
		cone := w.joinBehind(simnet.FullCone, netip.MustParseAddr("203.0.113.77"))
		symmetric := w.joinBehind(simnet.Symmetric, netip.MustParseAddr("198.51.100.77"))
		time.Sleep(20 * time.Minute)
		got, _ := cone.LocalRecord().UDPEndpoint4()
		if want := netip.MustParseAddrPort("203.0.113.77:30303"); got != want {
			t.Fatalf("record says %v, want %v", got, want)
		}
		if got, ok := symmetric.LocalRecord().UDPEndpoint4(); ok {
			t.Errorf("behind a symmetric NAT the record says %v, want nothing", got)
		}
		time.Sleep(5 * time.Minute)
		found, err := w.nodes[5].Lookup(t.Context(), cone.ID())
		if err != nil || len(found) == 0 || found[0].ID() != cone.ID() {
			t.Errorf("a lookup finds %d nodes (%v), not the one behind the NAT", len(found), err)
		}
	})
}

// joinBehind starts the next node behind a NAT of its own.
func (w *world) joinBehind(kind simnet.NATConfig, external netip.Addr) *discv5.Node {
	w.t.Helper()
	conn, err := w.net.NAT(kind, external).Host(netip.MustParseAddr("192.168.1.2")).ListenUDP(30303)
	if err != nil {
		w.t.Fatal(err)
	}
	n, err := discv5.Listen(discv5.Config{
		Key: testKey(w.t, 7000+len(w.nodes)), Conns: []discv5.PacketConn{anyConn{conn}}, Bootnodes: w.records()[:bootN],
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.nodes = append(w.nodes, n)
	return n
}
