package discv5_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/internal/bubble"
	"github.com/muster-p2p/muster/internal/simnet"
)

// simSize is how many nodes the simulation has. A hundred take seconds, and a
// thousand minutes, so they are asked for: make sim-discv5 sets
// MUSTER_SIM_NODES to 1,000, or to what NODES says.
func simSize(t testing.TB) int {
	if s := os.Getenv("MUSTER_SIM_NODES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("MUSTER_SIM_NODES: %v", err)
		}
		return n
	}
	if testing.Short() || raceEnabled {
		t.Log("18 nodes instead of 100: -short or -race")
		return 18
	}
	return 100
}

// world is a network of nodes in memory, 25 ms apart, each in a /24 of its own.
type world struct {
	t     testing.TB
	net   *simnet.Net
	dice  *rand.Rand
	nodes []*discv5.Node
}

const (
	oneWay = 25 * time.Millisecond
	// joinSpan is the time over which a simulated network comes up. Nobody
	// challenges more than 500 strangers a second, so a thousand nodes cannot
	// join by three bootnodes in one instant.
	joinSpan = 30 * time.Second
	bootN    = 3
)

func newWorld(t testing.TB) *world {
	const seed = 1
	t.Logf("seed %d", seed)
	return &world{
		t: t, net: simnet.New(simnet.Config{Seed: seed, Link: simnet.Delay(oneWay)}),
		dice: rand.New(rand.NewPCG(seed, seed)),
	}
}

func (w *world) close() {
	for _, n := range w.nodes {
		if err := n.Close(); err != nil {
			w.t.Error(err)
		}
	}
	w.net.Close()
}

// worldAddr is the ith node's endpoint, in a public /24 of its own.
func worldAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(11 + i>>16), byte(i >> 8), byte(i), 1}), 30303)
}

// join starts the next node. The first few are everybody's bootnodes.
func (w *world) join() *discv5.Node {
	w.t.Helper()
	i := len(w.nodes)
	var boot []*enr.Record
	for _, b := range w.nodes[:min(i, bootN)] {
		boot = append(boot, b.LocalRecord())
	}
	n := w.start(i, discv5.Config{Bootnodes: boot})
	w.nodes = append(w.nodes, n)
	return n
}

// start runs node i with the rest of its Config.
func (w *world) start(i int, cfg discv5.Config) *discv5.Node {
	w.t.Helper()
	conn, err := w.net.Host(worldAddr(i).Addr()).ListenUDP(worldAddr(i).Port())
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.Key, cfg.Conns, cfg.Advertise = testKey(w.t, i), []discv5.PacketConn{conn}, []netip.AddrPort{worldAddr(i)}
	n, err := discv5.Listen(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) records() (all []*enr.Record) {
	for _, n := range w.nodes {
		all = append(all, n.LocalRecord())
	}
	return all
}

func (w *world) grow(n int) {
	for range n {
		w.join()
		time.Sleep(joinSpan / time.Duration(n))
	}
}

// closest are the k true closest nodes to target, without the one that asks.
func (w *world) closest(target, asker enr.ID, k int) []enr.ID {
	ids := make([]enr.ID, 0, len(w.nodes))
	for _, n := range w.nodes {
		if n.ID() != asker {
			ids = append(ids, n.ID())
		}
	}
	slices.SortFunc(ids, func(a, b enr.ID) int { return enr.CompareDistance(target, a, b) })
	return ids[:min(k, len(ids))]
}

// lookups is what a number of lookups for random targets found and took.
type lookups struct {
	recall float64 // part of the true closest 16 that was found
	first  float64 // part of the lookups that found the closest node
	calls  float64 // FINDNODE requests per lookup, upkeep in the meantime included
	took   []time.Duration
}

func (l lookups) quantile(q float64) time.Duration {
	return l.took[min(int(q*float64(len(l.took))), len(l.took)-1)]
}

func (l lookups) String() string {
	return fmt.Sprintf("recall@16 %.4f, closest found %.3f, p50 %v, p99 %v, %.1f FINDNODE",
		l.recall, l.first, l.quantile(0.5), l.quantile(0.99), l.calls)
}

// sample makes lookups one after another, each from a random node.
func (w *world) sample(count int) lookups {
	w.t.Helper()
	var l lookups
	before := w.findNodes()
	for range count {
		asker := w.nodes[w.dice.IntN(len(w.nodes))]
		target := w.randomID()
		start := time.Now()
		found, err := asker.Lookup(w.context(), target)
		if err != nil {
			w.t.Fatal(err)
		}
		l.took = append(l.took, time.Since(start))
		truth := w.closest(target, asker.ID(), 16)
		hits := 0
		for _, id := range truth {
			if slices.ContainsFunc(found, func(r *enr.Record) bool { return r.ID() == id }) {
				hits++
			}
		}
		l.recall += float64(hits) / float64(len(truth)) / float64(count)
		if len(found) > 0 && found[0].ID() == truth[0] {
			l.first += 1 / float64(count)
		}
	}
	slices.Sort(l.took)
	l.calls = float64(w.findNodes()-before) / float64(count)
	return l
}

// findNodes is how many FINDNODE requests all nodes have served.
func (w *world) findNodes() (sum uint64) {
	for _, n := range w.nodes {
		sum += n.Stats().FindNodesIn
	}
	return sum
}

// idle tells what a node sends on average over the time until then.
func (w *world) idle(until time.Time) string {
	start, before := time.Now(), w.net.Stats()
	time.Sleep(time.Until(until))
	span := time.Since(start).Seconds() * float64(len(w.nodes))
	after := w.net.Stats()
	return fmt.Sprintf("%.2f packets/s and %.0f B/s per idle node", float64(after.Sent-before.Sent)/span, float64(after.Bytes-before.Bytes)/span)
}

func (w *world) randomID() (id enr.ID) {
	for i := range id {
		id[i] = byte(w.dice.Uint32())
	}
	return id
}

func (w *world) context() context.Context { return w.t.Context() }

// findable starts a newcomer and returns after what time a lookup by some
// other node, begun every tenth of a second, has found it.
func (w *world) findable() time.Duration {
	w.t.Helper()
	start := time.Now()
	id := w.join().ID()
	done := make(chan time.Duration, 1)
	quit := make(chan struct{})
	defer close(quit)
	askers := slices.Clone(w.nodes[:len(w.nodes)-1])
	w.dice.Shuffle(len(askers), func(i, j int) { askers[i], askers[j] = askers[j], askers[i] })
	go func() {
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			case <-time.After(100 * time.Millisecond):
			}
			asker := askers[i%len(askers)]
			go func() {
				found, err := asker.Lookup(w.context(), id)
				if err == nil && slices.ContainsFunc(found, func(r *enr.Record) bool { return r.ID() == id }) {
					select {
					case done <- time.Since(start):
					default:
					}
				}
			}()
		}
	}()
	select {
	case d := <-done:
		return d
	case <-time.After(time.Minute):
		w.t.Error("a newcomer was not found in a minute")
		return time.Minute
	}
}

// Lookups find the closest nodes, soon after the network has come up; a
// newcomer is found at once.
func TestSimulatedNetwork(t *testing.T) {
	size := simSize(t)
	lookups, newcomers := 100, 15
	if testing.Short() || raceEnabled {
		lookups, newcomers = 20, 5
	}
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		start := time.Now()
		w.grow(size)
		early := w.sample(lookups / 2)
		t.Logf("%d nodes, after %v: %v", size, time.Since(start).Round(time.Second), early)

		time.Sleep(5*time.Minute - time.Since(start))
		l := w.sample(lookups)
		t.Logf("%d nodes, after 5 minutes: %v", size, l)
		if l.recall < 0.97 {
			t.Errorf("recall %.4f after 5 minutes, want 0.97", l.recall)
		}
		if p50 := l.quantile(0.5); p50 > 550*time.Millisecond {
			t.Errorf("a lookup takes %v, want 550ms at 25ms one way", p50)
		}

		var joins []time.Duration
		for range newcomers {
			joins = append(joins, w.findable())
		}
		slices.Sort(joins)
		t.Logf("newcomers found after %v", joins)
		if median := joins[len(joins)/2]; median > time.Second {
			t.Errorf("newcomers are found after %v, want 1s", median)
		}

		idle := w.idle(start.Add(15 * time.Minute))
		late := w.sample(lookups)
		t.Logf("%d nodes, after 15 minutes: %v; %s; network %+v", size, late, idle, w.net.Stats())
		if late.recall < 0.99 {
			t.Errorf("recall %.4f after 15 minutes, want 0.99", late.recall)
		}
		synctest.Wait()
	})
}
