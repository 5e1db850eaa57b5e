package pubsub

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestCacheWindows(t *testing.T) {
	c := newMessageCache(3, 5, 0)
	for i := range 7 {
		id := fmt.Sprint(i)
		c.put(id, "news", &Message{ID: id}, 10)
		c.put("chat"+id, "chat", &Message{ID: id}, 10)
		if i < 6 {
			c.shift()
		}
	}
	if got, want := c.gossipIDs("news"), []string{"6", "5", "4"}; !slices.Equal(got, want) {
		t.Errorf("announced %v, want %v", got, want)
	}
	if got := c.gossipIDs("nothing"); len(got) != 0 {
		t.Errorf("announced %v in a topic without messages", got)
	}
	for i := range 7 {
		id := fmt.Sprint(i)
		m, ok := c.get(id)
		if want := i >= 2; ok != want {
			t.Errorf("message %d held: %v, want %v", i, ok, want)
		}
		if ok && m.ID != id {
			t.Errorf("message %d is %s", i, m.ID)
		}
	}
	if c.bytes != 100 || len(c.entries) != 10 {
		t.Errorf("%d bytes in %d entries, want 100 in 10", c.bytes, len(c.entries))
	}
}

func TestCacheCountsPerPeer(t *testing.T) {
	c := newMessageCache(3, 5, 0)
	c.put("id", "news", &Message{ID: "id"}, 1)
	for want := 1; want <= 3; want++ {
		if _, n, ok := c.forPeer("id", "peer-a"); !ok || n != want {
			t.Errorf("asked %d times: count %d, %v", want, n, ok)
		}
	}
	if _, n, _ := c.forPeer("id", "peer-b"); n != 1 {
		t.Errorf("another peer's first: count %d", n)
	}
	c.forgetPeer("peer-a")
	if _, n, _ := c.forPeer("id", "peer-a"); n != 1 {
		t.Errorf("after forgetting: count %d", n)
	}
	if _, n, ok := c.forPeer("unknown", "peer-a"); ok || n != 0 {
		t.Errorf("unknown id: %d, %v", n, ok)
	}
}

func TestCacheBytes(t *testing.T) {
	c := newMessageCache(3, 5, 100)
	for i := range 12 {
		c.put(fmt.Sprint(i), "news", &Message{}, 20)
		if i%2 == 1 {
			c.shift()
		}
	}
	if c.bytes > 100 {
		t.Errorf("%d bytes held, want at most 100", c.bytes)
	}
	if got, want := slices.Sorted(maps.Keys(c.entries)), []string{"10", "11", "7", "8", "9"}; !slices.Equal(got, want) {
		t.Errorf("held %v, want %v: the newest", got, want)
	}
	c.put("huge", "news", &Message{}, 101)
	if _, ok := c.get("huge"); ok || len(c.entries) != 5 {
		t.Error("a message larger than the cache displaced the others")
	}
	if slices.Contains(c.gossipIDs("news"), "6") {
		t.Error("announced a message that is gone")
	}
}

// naiveCache is a list of messages with the heartbeat they came in.
type naiveCache struct {
	gossip, history, maxBytes, beat int
	all                             []naiveEntry
}

type naiveEntry struct {
	id, topic  string
	size, beat int
}

func (n *naiveCache) put(id, topic string, size int) {
	if slices.ContainsFunc(n.all, func(e naiveEntry) bool { return e.id == id }) || size > n.maxBytes {
		return
	}
	n.all = append(n.all, naiveEntry{id, topic, size, n.beat})
	for n.bytes() > n.maxBytes {
		n.all = n.all[1:]
	}
}

func (n *naiveCache) bytes() (sum int) {
	for _, e := range n.all {
		sum += e.size
	}
	return sum
}

func (n *naiveCache) shift() {
	n.beat++
	n.all = slices.DeleteFunc(n.all, func(e naiveEntry) bool { return n.beat-e.beat >= n.history })
}

func (n *naiveCache) gossipIDs(topic string) (ids []string) {
	for _, e := range n.all {
		if e.topic == topic && n.beat-e.beat < n.gossip {
			ids = append(ids, e.id)
		}
	}
	return ids
}

func TestCacheAgainstModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c, model := newMessageCache(3, 5, 1000), &naiveCache{gossip: 3, history: 5, maxBytes: 1000}
	sent := map[[2]string]int{}
	for i := range 50_000 {
		switch id, topic := fmt.Sprint(rnd.IntN(300)), fmt.Sprint(rnd.IntN(3)); rnd.IntN(20) {
		case 0:
			c.shift()
			model.shift()
		case 1:
			who := peer.ID(fmt.Sprint(rnd.IntN(3)))
			_, n, ok := c.forPeer(id, who)
			if held := slices.ContainsFunc(model.all, func(e naiveEntry) bool { return e.id == id }); ok != held {
				t.Fatalf("step %d: %s held %v, want %v", i, id, ok, held)
			} else if !held {
				delete(sent, [2]string{id, string(who)})
			} else if sent[[2]string{id, string(who)}]++; n != sent[[2]string{id, string(who)}] && n != 1 {
				t.Fatalf("step %d: %s sent %d times", i, id, n)
			} else {
				sent[[2]string{id, string(who)}] = n
			}
		case 2:
			got, want := c.gossipIDs(topic), model.gossipIDs(topic)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("step %d: announced %v, want %v", i, got, want)
			}
		default:
			size := 1 + rnd.IntN(40)
			c.put(id, topic, &Message{}, size)
			model.put(id, topic, size)
		}
		if c.bytes != model.bytes() || len(c.entries) != len(model.all) {
			t.Fatalf("step %d: %d bytes in %d, want %d in %d", i, c.bytes, len(c.entries), model.bytes(), len(model.all))
		}
	}
}
