package discv5_test

import (
	"net/netip"
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
