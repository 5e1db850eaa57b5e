package pubsub

import "slices"

// peerSetIndexed is the size from which a peerSet keeps an index: below it,
// walking a slice of pointers is quicker than a map, and most sets stay below.
const peerSetIndexed = 16

// A peerSet is a set of peers that keeps an order which depends only on the
// calls made, so that a router with a seeded source is reproducible.
// The zero value is an empty set.
type peerSet struct {
	list []*meshPeer
	pos  map[*meshPeer]int // nil while the set is small
}

func (s *peerSet) len() int { return len(s.list) }

func (s *peerSet) index(p *meshPeer) int {
	if s.pos == nil {
		return slices.Index(s.list, p)
	}
	if i, ok := s.pos[p]; ok {
		return i
	}
	return -1
}

func (s *peerSet) has(p *meshPeer) bool { return s.index(p) >= 0 }

// add reports whether p was not in the set.
func (s *peerSet) add(p *meshPeer) bool {
	if s.has(p) {
		return false
	}
	s.list = append(s.list, p)
	switch {
	case s.pos != nil:
		s.pos[p] = len(s.list) - 1
	case len(s.list) > peerSetIndexed:
		s.pos = make(map[*meshPeer]int, 2*len(s.list))
		for i, q := range s.list {
			s.pos[q] = i
		}
	}
	return true
}

// remove reports whether p was in the set. The last peer takes its place.
func (s *peerSet) remove(p *meshPeer) bool {
	i := s.index(p)
	if i < 0 {
		return false
	}
	last := len(s.list) - 1
	s.list[i] = s.list[last]
	s.list[last] = nil
	s.list = s.list[:last]
	if s.pos != nil {
		delete(s.pos, p)
		if i < last {
			s.pos[s.list[i]] = i
		}
	}
	return true
}

// clone returns the members in a slice of their own.
func (s *peerSet) clone() []*meshPeer { return slices.Clone(s.list) }
