package pubsub

import (
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func testPromises() *promises { return newPromises(3*time.Second, maphash.MakeSeed()) }

func TestPromiseBroken(t *testing.T) {
	s := testPromises()
	s.add(start, "a", "id-1", []string{"id-1", "id-2"})
	s.add(start.Add(time.Second), "a", "id-3", []string{"id-3"})
	s.add(start, "b", "id-1", []string{"id-1"})
	if got := s.broken(start.Add(3 * time.Second)); len(got) != 0 {
		t.Errorf("broken in time: %v", got)
	}
	if got, want := s.broken(start.Add(3*time.Second+1)), (map[peer.ID]int{"a": 1, "b": 1}); !maps.Equal(got, want) {
		t.Errorf("broken %v, want %v", got, want)
	}
	if got, want := s.broken(start.Add(time.Hour)), (map[peer.ID]int{"a": 1}); !maps.Equal(got, want) {
		t.Errorf("broken later %v, want %v", got, want)
	}
	if s.open() != 0 || len(s.byID) != 0 || len(s.byPeer) != 0 {
		t.Error("something is left")
	}
}

func TestPromiseKept(t *testing.T) {
	s := testPromises()
	s.add(start, "a", "id-1", []string{"id-1"})
	s.add(start, "b", "id-1", []string{"id-1"})
	s.fulfilled("id-1") // whoever sent it: both may have been overtaken
	if got := s.broken(start.Add(time.Hour)); len(got) != 0 || s.open() != 0 {
		t.Errorf("broken %v after the message came", got)
	}
}

func TestPromiseMadeTwice(t *testing.T) {
	s := testPromises()
	s.add(start, "a", "id-1", []string{"id-1"})
	s.add(start.Add(time.Second), "a", "id-1", []string{"id-1"})
	if got, want := s.broken(start.Add(time.Hour)), (map[peer.ID]int{"a": 1}); !maps.Equal(got, want) {
		t.Errorf("broken %v, want %v", got, want)
	}
}

func TestPromiseForgotten(t *testing.T) {
	s := testPromises()
	s.add(start, "a", "id-1", []string{"id-1"})
	s.add(start, "b", "id-1", []string{"id-1"})
	s.forget("a")
	s.forget("nobody")
	if got, want := s.broken(start.Add(time.Hour)), (map[peer.ID]int{"b": 1}); !maps.Equal(got, want) {
		t.Errorf("broken %v, want %v", got, want)
	}
}

// A peer whose id function is another one answers every IWANT with a message
// that we know under another id: it is never punished.
func TestPromiseForgivenForOtherIDFunction(t *testing.T) {
	s := testPromises()
	for i := range 10 {
		now := start.Add(time.Duration(i) * time.Second)
		s.add(now, "js", fmt.Sprint("js-id-", i), []string{fmt.Sprint("js-id-", i)})
		if !s.arrived("js", fmt.Sprint("go-id-", i)) {
			t.Error("not forgiven")
		}
		if got := s.broken(now); len(got) != 0 {
			t.Fatalf("broken %v", got)
		}
	}
	if s.forgiven != 10 || s.open() != 0 {
		t.Errorf("%d forgiven, %d open", s.forgiven, s.open())
	}
}

// One message makes up for one promise, and only if it was not asked for: a
// peer that withholds what it announced gains nothing by sending the rest.
func TestPromiseNotForgiven(t *testing.T) {
	s := testPromises()
	s.add(start, "liar", "withheld", []string{"withheld", "other-1", "other-2"})
	s.add(start, "liar", "withheld-2", []string{"withheld-2"})
	if s.arrived("liar", "other-1") || s.arrived("liar", "other-2") {
		t.Error("forgiven for sending what else was asked for")
	}
	if !s.arrived("liar", "unasked") {
		t.Error("not forgiven for one unasked message")
	}
	if got, want := s.broken(start.Add(time.Hour)), (map[peer.ID]int{"liar": 1}); !maps.Equal(got, want) {
		t.Errorf("broken %v, want %v", got, want)
	}
	if s.arrived("liar", "unasked-2") {
		t.Error("forgiven without a promise")
	}
}

func TestPromisesBounded(t *testing.T) {
	s := testPromises()
	var ids []string
	for i := range 5000 {
		ids = append(ids, fmt.Sprint(i))
	}
	s.add(start, "a", ids[0], ids)
	s.add(start, "a", ids[1], ids)
	if n := len(s.byPeer["a"].asked); n > maxAsked {
		t.Errorf("%d ids remembered, want at most %d", n, maxAsked)
	}
}

// Whatever happens, the two indexes agree.
func TestPromisesConsistent(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s, now := testPromises(), start
	for i := range 50_000 {
		p, id := peer.ID(fmt.Sprint(rnd.IntN(10))), fmt.Sprint(rnd.IntN(50))
		switch rnd.IntN(8) {
		case 0:
			now = now.Add(time.Duration(rnd.IntN(2000)) * time.Millisecond)
			s.broken(now)
		case 1:
			s.fulfilled(id)
		case 2:
			s.arrived(p, id)
		case 3:
			s.forget(p)
		default:
			s.add(now, p, id, []string{id, fmt.Sprint(rnd.IntN(50))})
		}
		n := 0
		for id, peers := range s.byID {
			if n += len(peers); len(peers) == 0 {
				t.Fatalf("step %d: nobody promised %s", i, id)
			}
		}
		if n != s.open() {
			t.Fatalf("step %d: %d promises by id, %d by peer", i, n, s.open())
		}
	}
}
