package discv5

import (
	"sync"
	"sync/atomic"
)

// subscribers hands events on. A subscriber who does not read loses events
// and holds up nobody.
type subscribers struct {
	mu      sync.Mutex
	chans   map[chan Event]struct{} // mu
	closed  bool                    // mu
	n       atomic.Int32
	dropped atomic.Uint64
}

// Subscribe returns a channel with room for buffer events, and a function
// that ends the subscription. What happens while the channel is full is
// dropped and counted. The channel is closed when the subscription or the
// node ends.
func (n *Node) Subscribe(buffer int) (events <-chan Event, cancel func()) {
	ch := make(chan Event, max(buffer, 1))
	s := &n.subs
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		close(ch)
		return ch, func() {}
	}
	if s.chans == nil {
		s.chans = make(map[chan Event]struct{})
	}
	s.chans[ch] = struct{}{}
	s.n.Add(1)
	return ch, func() { s.end(ch) }
}

func (s *subscribers) end(ch chan Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.chans[ch]; ok {
		delete(s.chans, ch)
		s.n.Add(-1)
		close(ch)
	}
}

func (s *subscribers) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for ch := range s.chans {
		close(ch)
	}
	clear(s.chans)
}

func (n *Node) publish(e Event) {
	s := &n.subs
	if s.n.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for ch := range s.chans {
		select {
		case ch <- e:
		default:
			s.dropped.Add(1)
		}
	}
}
