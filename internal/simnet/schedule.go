package simnet

import (
	"container/heap"
	"sync"
	"time"
)

// scheduler delivers datagrams when they are due. One goroutine owns the
// timer; senders only push onto the heap and, when theirs is the new first,
// wake it.
type scheduler struct {
	wake chan struct{} // capacity 1
	quit chan struct{}
	done chan struct{}

	mu      sync.Mutex
	pending deliveries
	seq     uint64
	stopped bool
}

type delivery struct {
	due time.Time
	seq uint64 // datagrams due at the same instant arrive in the order sent
	net *Net
	d   Datagram
}

func newScheduler() *scheduler {
	s := &scheduler{wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *scheduler) after(delay time.Duration, n *Net, d Datagram) {
	due := time.Now().Add(delay)
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return
	}
	s.seq++
	seq := s.seq
	heap.Push(&s.pending, delivery{due: due, seq: seq, net: n, d: d})
	first := s.pending[0].seq == seq
	s.mu.Unlock()
	if !first {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default: // it is about to look anyway
	}
}

func (s *scheduler) run() {
	defer close(s.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := s.deliverDue()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-s.quit:
			return
		}
	}
}

// idleWait is how long the scheduler sleeps when nothing is on its way. Any
// length does; a sender wakes it.
const idleWait = 24 * time.Hour

// deliverDue delivers what is due and tells how long until the next one.
func (s *scheduler) deliverDue() time.Duration {
	for {
		s.mu.Lock()
		if len(s.pending) == 0 {
			s.mu.Unlock()
			return idleWait
		}
		if wait := time.Until(s.pending[0].due); wait > 0 {
			s.mu.Unlock()
			return wait
		}
		next := heap.Pop(&s.pending).(delivery)
		s.mu.Unlock()
		next.net.arrive(next.d)
	}
}

func (s *scheduler) close() {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		s.pending = nil
		close(s.quit)
	}
	s.mu.Unlock()
	<-s.done
}

type deliveries []delivery

func (d deliveries) Len() int { return len(d) }

func (d deliveries) Less(i, j int) bool {
	if d[i].due.Equal(d[j].due) {
		return d[i].seq < d[j].seq
	}
	return d[i].due.Before(d[j].due)
}

func (d deliveries) Swap(i, j int) { d[i], d[j] = d[j], d[i] }

func (d *deliveries) Push(x any) { *d = append(*d, x.(delivery)) }

func (d *deliveries) Pop() any {
	old := *d
	last := old[len(old)-1]
	old[len(old)-1] = delivery{}
	*d = old[:len(old)-1]
	return last
}
