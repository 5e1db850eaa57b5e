package pubsub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrSubscriptionCancelled is returned by Next after Cancel, and when the
// PubSub is closed.
var ErrSubscriptionCancelled = errors.New("pubsub: subscription cancelled")

// An Overflow says what happens to a message for which a subscription's
// buffer has no room.
type Overflow uint8

const (
	// DropNewest drops the message.
	DropNewest Overflow = iota
	// DropOldest drops the message that has waited longest.
	DropOldest
	// Block waits for room, and with it does the peer that sent the message.
	Block
)

// A Subscription is a queue of a topic's messages.
type Subscription struct {
	topic    *Topic
	size     int
	overflow Overflow
	filter   func(*Message) bool
	ready    chan struct{} // capacity 1: there are messages
	room     chan struct{} // capacity 1: there is room
	done     chan struct{}
	once     sync.Once
	dropped  atomic.Uint64

	mu   sync.Mutex // guards buf, a ring that grows up to size
	buf  []*Message
	head int
	n    int
}

// A SubOpt is an option of Subscribe.
type SubOpt func(*Subscription) error

// WithBufferSize sets how many messages wait for the reader. The default is
// DefaultSubscriptionBuffer.
func WithBufferSize(size int) SubOpt {
	return func(s *Subscription) error {
		if size < 1 {
			return fmt.Errorf("pubsub: buffer size %d", size)
		}
		s.size = size
		return nil
	}
}

// WithOverflow sets what happens when the buffer is full. The default is
// DropNewest.
func WithOverflow(o Overflow) SubOpt {
	return func(s *Subscription) error {
		s.overflow = o
		return nil
	}
}

// WithMessageFilter drops messages for which filter returns false before they
// are queued. It runs where the message came in, and must be quick.
func WithMessageFilter(filter func(*Message) bool) SubOpt {
	return func(s *Subscription) error {
		s.filter = filter
		return nil
	}
}

// Subscribe enters the topic, unless it is fanout-only, and returns a queue
// of its messages. There may be several; each gets every message.
func (t *Topic) Subscribe(opts ...SubOpt) (*Subscription, error) {
	s := &Subscription{
		topic: t, size: DefaultSubscriptionBuffer,
		ready: make(chan struct{}, 1), room: make(chan struct{}, 1), done: make(chan struct{}),
	}
	for _, opt := range opts {
		if err := opt(s); err != nil {
			return nil, err
		}
	}
	err := t.use(func() error {
		t.handles.Add(1)
		return t.ps.do(func(now time.Time) {
			var subs []*Subscription
			if old := t.st.subs.Load(); old != nil {
				subs = *old
			}
			t.st.subs.Store(new(append(slices.Clip(subs), s)))
			t.ps.enterTopic(now, t.st)
		})
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Subscribe joins a topic if need be and subscribes to it.
//
// Deprecated: use [PubSub.Join] and [Topic.Subscribe].
func (ps *PubSub) Subscribe(topic string, opts ...SubOpt) (*Subscription, error) {
	t, _, err := ps.join(topic, nil)
	if err != nil {
		return nil, err
	}
	return t.Subscribe(opts...)
}

// Topic returns the topic's name.
func (s *Subscription) Topic() string { return s.topic.st.name }

// Dropped returns how many messages were lost for want of room.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// push queues a message and reports whether none was lost.
func (s *Subscription) push(m *Message) bool {
	if s.filter != nil && !s.filter(m) {
		return true
	}
	for {
		switch s.tryPush(m) {
		case pushed:
			return true
		case pushedOver:
			s.dropped.Add(1)
			return false
		case noRoom:
		}
		if s.overflow != Block {
			s.dropped.Add(1)
			return false
		}
		select {
		case <-s.room:
		case <-s.done:
			return true
		case <-s.topic.ps.ctx.Done():
			return true
		}
	}
}

type pushResult uint8

const (
	pushed     pushResult = iota
	pushedOver            // and the oldest went
	noRoom
)

func (s *Subscription) tryPush(m *Message) pushResult {
	s.mu.Lock()
	res := pushed
	if s.n == s.size {
		if s.overflow != DropOldest {
			s.mu.Unlock()
			return noRoom
		}
		s.popLocked()
		res = pushedOver
	}
	if s.n == len(s.buf) {
		s.growLocked()
	}
	s.buf[(s.head+s.n)%len(s.buf)] = m
	s.n++
	s.mu.Unlock()
	signal(s.ready)
	return res
}

func (s *Subscription) growLocked() {
	buf := make([]*Message, min(max(2*len(s.buf), 16), s.size))
	for i := range s.n {
		buf[i] = s.buf[(s.head+i)%len(s.buf)]
	}
	s.buf, s.head = buf, 0
}

func (s *Subscription) popLocked() *Message {
	m := s.buf[s.head]
	s.buf[s.head] = nil
	s.head = (s.head + 1) % len(s.buf)
	s.n--
	return m
}

func (s *Subscription) pop() *Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == 0 {
		return nil
	}
	m := s.popLocked()
	if s.n > 0 {
		signal(s.ready)
	}
	if s.overflow == Block {
		signal(s.room)
	}
	return m
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Next waits for the next message. What was queued when the subscription was
// cancelled can still be read. Several goroutines may call it at once.
func (s *Subscription) Next(ctx context.Context) (*Message, error) {
	for {
		if m := s.pop(); m != nil {
			return m, nil
		}
		select {
		case <-s.ready:
		case <-s.done:
			if m := s.pop(); m != nil {
				return m, nil
			}
			return nil, ErrSubscriptionCancelled
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Messages iterates over the messages until the context is done or the
// subscription is cancelled, which ends it with an error.
func (s *Subscription) Messages(ctx context.Context) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		for {
			m, err := s.Next(ctx)
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

func (s *Subscription) end() { s.once.Do(func() { close(s.done) }) }

// Cancel ends the subscription; the last one of a topic leaves it. It may be
// called more than once.
func (s *Subscription) Cancel() {
	s.once.Do(func() {
		close(s.done)
		t := s.topic
		_ = t.ps.do(func(now time.Time) {
			if old := t.st.subs.Load(); old != nil {
				t.st.subs.Store(new(slices.DeleteFunc(slices.Clone(*old), func(o *Subscription) bool { return o == s })))
			}
			t.ps.leaveTopic(now, t.st)
		})
		t.handles.Add(-1)
	})
}
