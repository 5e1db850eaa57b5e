package pubsub

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestBackoffs(t *testing.T) {
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	b := newBackoffs(100)
	b.add("news", "a", at(60))
	b.add("news", "a", at(10)) // earlier: no effect
	b.add("news", "b", at(10))
	b.add("chat", "a", at(20))
	for _, tt := range []struct {
		topic string
		p     peer.ID
		want  time.Time
	}{{"news", "a", at(60)}, {"news", "b", at(10)}, {"chat", "a", at(20)}, {"chat", "b", time.Time{}}, {"none", "a", time.Time{}}} {
		if got := b.until(tt.topic, tt.p); !got.Equal(tt.want) {
			t.Errorf("%s in %s until %v, want %v", tt.p, tt.topic, got, tt.want)
		}
	}
	b.gc(at(12), 2*time.Second) // exactly the slack: kept
	if b.len() != 3 {
		t.Errorf("%d held at the end of the slack, want 3", b.len())
	}
	b.gc(at(13), 2*time.Second)
	if b.len() != 2 || !b.until("news", "b").IsZero() {
		t.Errorf("%d held after the slack, want 2", b.len())
	}
	b.dropTopic("news")
	b.gc(at(30), 0)
	if b.len() != 0 || len(b.topics) != 0 {
		t.Errorf("%d held in %d topics, want none", b.len(), len(b.topics))
	}
}

func TestBackoffsBounded(t *testing.T) {
	b := newBackoffs(10)
	for i := range 1000 {
		b.add("news", peer.ID(fmt.Sprint(i)), start)
		if b.until("news", peer.ID(fmt.Sprint(i))).IsZero() {
			t.Fatal("the newcomer is not held")
		}
	}
	if b.len() != 10 {
		t.Errorf("%d held, want 10", b.len())
	}
}

func TestBackoffsAgainstModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	b, model, now := newBackoffs(1000), map[[2]string]time.Time{}, start
	const slack = 3 * time.Second
	for i := range 20_000 {
		topic, p := fmt.Sprint(rnd.IntN(4)), fmt.Sprint(rnd.IntN(20))
		switch rnd.IntN(10) {
		case 0:
			now = now.Add(time.Duration(rnd.IntN(5)) * time.Second)
			b.gc(now, slack)
			for k, until := range model {
				if now.Sub(until) > slack {
					delete(model, k)
				}
			}
		case 1:
			b.dropTopic(topic)
			for k := range model {
				if k[0] == topic {
					delete(model, k)
				}
			}
		default:
			until := now.Add(time.Duration(rnd.IntN(60)) * time.Second)
			b.add(topic, peer.ID(p), until)
			if k := [2]string{topic, p}; until.After(model[k]) {
				model[k] = until
			}
		}
		if got, want := b.until(topic, peer.ID(p)), model[[2]string{topic, p}]; !got.Equal(want) || b.len() != len(model) {
			t.Fatalf("step %d: until %v, want %v; %d held, want %d", i, got, want, b.len(), len(model))
		}
	}
}
