package pubsub

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Each byte of a fuzz input is a step of a machine: what to do in the upper
// bits, with which id or peer in the lower.
func step(b byte) (what, with int) { return int(b >> 5), int(b & 31) }

func FuzzCache(f *testing.F) {
	f.Add([]byte{0, 1, 2, 0x20, 3, 0x20, 0x40, 0x61})
	f.Fuzz(func(t *testing.T, steps []byte) {
		c, model := newMessageCache(2, 3, 100), &naiveCache{gossip: 2, history: 3, maxBytes: 100}
		for _, b := range steps {
			what, with := step(b)
			id := fmt.Sprint(with)
			switch what {
			case 1:
				c.shift()
				model.shift()
			case 2:
				got, want := c.gossipIDs("even"), model.gossipIDs("even")
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("announced %v, want %v", got, want)
				}
			case 3:
				_, _, got := c.forPeer(id, "p")
				if want := slices.ContainsFunc(model.all, func(e naiveEntry) bool { return e.id == id }); got != want {
					t.Fatalf("%s held: %v, want %v", id, got, want)
				}
			default:
				topic := [...]string{"even", "odd"}[with%2]
				c.put(id, topic, &Message{}, 5+4*what)
				model.put(id, topic, 5+4*what)
			}
			if c.bytes != model.bytes() || len(c.entries) != len(model.all) {
				t.Fatalf("%d bytes in %d, want %d in %d", c.bytes, len(c.entries), model.bytes(), len(model.all))
			}
		}
	})
}

func FuzzPromises(f *testing.F) {
	f.Add([]byte{0, 1, 0x20, 0x41, 0x62, 0x80, 0xa3})
	f.Fuzz(func(t *testing.T, steps []byte) {
		s, now := testPromises(), start
		for _, b := range steps {
			what, with := step(b)
			p, id := peer.ID(fmt.Sprint(with%4)), fmt.Sprint(with/4)
			open := s.open()
			switch what {
			case 0:
				now = now.Add(time.Duration(with) * 200 * time.Millisecond)
				n := 0
				for _, k := range s.broken(now) {
					n += k
				}
				if s.open() != open-n {
					t.Fatalf("%d open, %d broken, %d left", open, n, s.open())
				}
			case 1:
				s.fulfilled(id)
			case 2:
				s.forget(p)
			case 3:
				if s.arrived(p, id) && s.open() >= open {
					t.Fatal("forgiven, and none less open")
				}
			default:
				s.add(now, p, id, []string{id})
			}
			byID := 0
			for _, peers := range s.byID {
				byID += len(peers)
			}
			if byID != s.open() {
				t.Fatalf("%d by id, %d by peer", byID, s.open())
			}
		}
	})
}

func FuzzScore(f *testing.F) {
	f.Add([]byte{0, 0x21, 0x42, 0x63, 0x84, 0xa5, 0xc6, 0xe7})
	f.Fuzz(func(t *testing.T, steps []byte) {
		p := scoreParams(func(p *PeerScoreParams, tp *TopicScoreParams) {
			p.BehaviourPenaltyWeight = -1
			tp.MeshMessageDeliveriesWeight, tp.MeshMessageDeliveriesThreshold = -1, 3
			tp.FirstMessageDeliveriesWeight, tp.InvalidMessageDeliveriesWeight = 1, -1
		})
		s, now := newScorer(p), start
		for _, b := range steps {
			what, with := step(b)
			from, id := peer.ID(fmt.Sprint(with%4)), fmt.Sprint(with/4)
			switch what {
			case 0:
				s.addPeer(now, from, nil)
			case 1:
				s.removePeer(now, from)
			case 2:
				s.graft(now, from, "news")
			case 3:
				s.prune(now, from, "news")
			case 4:
				s.deliver(now, id, from, "news")
			case 5:
				s.reject(now, id, from, "news")
			case 6:
				s.duplicate(now, id, from, "news")
			case 7:
				now = now.Add(time.Duration(with) * time.Minute)
				s.refresh(now)
			}
			if v := s.score(now, from); math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("score %v", v)
			}
		}
	})
}
