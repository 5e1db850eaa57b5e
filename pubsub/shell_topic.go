package pubsub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Errors of topics.
var (
	// ErrTopicClosed is returned by calls on a Topic after its Close.
	ErrTopicClosed = errors.New("pubsub: topic closed")
	// ErrFanoutOnlyTopic is returned by Relay on a topic that is only published to.
	ErrFanoutOnlyTopic = errors.New("pubsub: cannot relay on a fanout-only topic")
)

// A topicState is what the message path needs of a topic that we have joined.
type topicState struct {
	name       string
	idFn       MsgIdFunction // nil for MessageIDGo, which has a path of its own
	policy     MessageSignaturePolicy
	noAuthor   bool
	fanoutOnly bool

	wanted     atomic.Bool // there are subscriptions or relays: we are in the topic
	subs       atomic.Pointer[[]*Subscription]
	validators atomic.Pointer[validators]
	targets    atomic.Pointer[targets]
	peers      atomic.Pointer[[]peer.ID]

	// Owned by the loop.
	users    int // subscriptions and relays
	handlers []*TopicEventHandler
}

// targets are the peers that messages of a topic go to.
type targets struct {
	relay    []*Peer // messages of others
	flood    int     // of relay, those that get every message of randomsub
	publish  []*Peer // our own
	dontWant []*Peer // mesh peers that know IDONTWANT
}

// deliver gives a message to the subscriptions.
func (t *topicState) deliver(ps *PubSub, m *Message) {
	subs := t.subs.Load()
	if subs == nil {
		return
	}
	for _, s := range *subs {
		if !s.push(m) {
			ps.stats.undeliverable.Add(1)
			ps.trace.undeliverable(m)
		}
	}
}

// A Topic is a handle for a topic that was joined. To join is not to be in
// the topic on the network: Subscribe and Relay do that.
type Topic struct {
	ps *PubSub
	st *topicState

	mu      sync.RWMutex // guards closed
	closed  bool
	handles atomic.Int64 // subscriptions, relays and event handlers
}

// A TopicOpt is an option of Join.
type TopicOpt func(*Topic) error

// WithTopicMessageIdFn sets the message-id function of the topic.
func WithTopicMessageIdFn(fn MsgIdFunction) TopicOpt { //nolint:revive // the name that users of go-libp2p-pubsub know
	return func(t *Topic) error {
		t.st.idFn = fn
		return nil
	}
}

// WithTopicSignaturePolicy sets the signature policy of the topic.
func WithTopicSignaturePolicy(p MessageSignaturePolicy) TopicOpt {
	return func(t *Topic) error {
		if p.mustSign() && t.ps.key == nil {
			return errors.New("pubsub: no key to sign with")
		}
		t.st.policy = p
		t.st.noAuthor = p == StrictNoSign
		switch {
		case t.st.idFn != nil:
		case t.st.noAuthor:
			t.st.idFn = MessageIDSHA256
		case !p.mustVerify():
			t.st.idFn = messageIDUnsigned
		}
		return nil
	}
}

// FanoutOnly makes a topic that is published to and never entered: its
// subscriptions get what is published here.
func FanoutOnly() TopicOpt {
	return func(t *Topic) error {
		t.st.fanoutOnly = true
		return nil
	}
}

// Join returns a handle for a topic. There is one handle per topic; a second
// Join returns an error until it is closed.
func (ps *PubSub) Join(topic string, opts ...TopicOpt) (*Topic, error) {
	t, isNew, err := ps.join(topic, opts)
	if err != nil {
		return nil, err
	}
	if !isNew {
		return nil, fmt.Errorf("pubsub: topic %q already joined", topic)
	}
	return t, nil
}

func (ps *PubSub) join(topic string, opts []TopicOpt) (t *Topic, isNew bool, err error) {
	if f := ps.cfg.SubscriptionFilter; f != nil && !f.CanSubscribe(topic) {
		return nil, false, fmt.Errorf("pubsub: topic %q is not allowed by the subscription filter", topic)
	}
	if len(topic) > ps.cfg.Limits.Topic {
		return nil, false, fmt.Errorf("pubsub: topic of %d bytes, at most %d", len(topic), ps.cfg.Limits.Topic)
	}
	ps.topicMu.Lock()
	defer ps.topicMu.Unlock()
	if t := ps.handles[topic]; t != nil {
		return t, false, nil
	}
	t = &Topic{ps: ps, st: &topicState{name: topic, policy: *ps.cfg.Signatures, noAuthor: ps.cfg.NoAuthor, idFn: ps.idFn}}
	for _, opt := range opts {
		if err := opt(t); err != nil {
			return nil, false, err
		}
	}
	ps.handles[topic] = t
	ps.storeTopic(topic, t.st)
	ps.storeValidators(topic)
	if err := ps.do(func(time.Time) { ps.mesh.touch(ps.mesh.topic(topic)) }); err != nil {
		return nil, false, err
	}
	return t, true, nil
}

// storeTopic replaces the table of topics; st is nil to remove one.
func (ps *PubSub) storeTopic(topic string, st *topicState) {
	old := *ps.topics.Load()
	m := make(map[string]*topicState, len(old)+1)
	for k, v := range old {
		m[k] = v
	}
	if st == nil {
		delete(m, topic)
	} else {
		m[topic] = st
	}
	ps.topics.Store(&m)
}

// String returns the topic's name.
func (t *Topic) String() string { return t.st.name }

// use runs f unless the topic is closed, and keeps it from closing meanwhile.
func (t *Topic) use(f func() error) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.closed {
		return ErrTopicClosed
	}
	return f()
}

// Close gives the handle back. It returns an error while there are
// subscriptions, relays or event handlers, and nil if it is closed already.
func (t *Topic) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	if n := t.handles.Load(); n > 0 {
		return fmt.Errorf("pubsub: topic %q has %d active subscriptions, relays or event handlers", t.st.name, n)
	}
	t.closed = true
	t.ps.topicMu.Lock()
	defer t.ps.topicMu.Unlock()
	delete(t.ps.handles, t.st.name)
	t.ps.storeTopic(t.st.name, nil)
	return nil
}

// closeTopics ends all subscriptions and handlers when the room is closed.
func (ps *PubSub) closeTopics() {
	ps.topicMu.Lock()
	defer ps.topicMu.Unlock()
	for _, t := range ps.handles {
		if subs := t.st.subs.Load(); subs != nil {
			for _, s := range *subs {
				s.end()
			}
		}
		for _, h := range t.st.handlers {
			h.end()
		}
	}
}

// enterTopic counts a user of the topic in. It runs on the owner.
func (ps *PubSub) enterTopic(now time.Time, t *topicState) {
	t.users++
	if t.users > 1 || t.fanoutOnly {
		return
	}
	t.wanted.Store(true)
	ps.joinedList = append(ps.joinedList, t.name)
	ps.storeJoined()
	// SUBSCRIBE goes out before GRAFT: a peer ignores a GRAFT of a stranger.
	for _, p := range ps.peers {
		p.SendSubscriptions([]string{t.name}, true)
	}
	ps.mesh.join(now, t.name)
	ps.trace.join(t.name)
	if ps.disc != nil {
		ps.disc.enter(t.name)
	}
}

// leaveTopic counts a user of the topic out. It runs on the owner.
func (ps *PubSub) leaveTopic(now time.Time, t *topicState) {
	t.users--
	if t.users > 0 || t.fanoutOnly {
		return
	}
	t.wanted.Store(false)
	ps.joinedList = slices.DeleteFunc(ps.joinedList, func(s string) bool { return s == t.name })
	ps.storeJoined()
	ps.mesh.leave(now, t.name)
	ps.trace.leave(t.name)
	ps.act(now) // PRUNE before UNSUBSCRIBE: see batchWriter.write
	for _, p := range ps.peers {
		p.SendSubscriptions([]string{t.name}, false)
	}
	if ps.disc != nil {
		ps.disc.leave(t.name)
	}
}

func (ps *PubSub) storeJoined() { ps.joined.Store(new(slices.Clone(ps.joinedList))) }

// GetTopics returns the topics that we are in.
func (ps *PubSub) GetTopics() []string { return slices.Clone(*ps.joined.Load()) }

// ListPeers returns the connected peers that are in a topic, or all that
// speak pubsub if the topic is empty.
func (ps *PubSub) ListPeers(topic string) []peer.ID {
	var ids []peer.ID
	_ = ps.do(func(time.Time) {
		if topic == "" {
			for id, p := range ps.mesh.peers {
				if p.up {
					ids = append(ids, id)
				}
			}
		} else if t := ps.mesh.topics[topic]; t != nil {
			ids = ps.idsOf(t)
		}
	})
	return ids
}

// MeshPeers returns the peers in our mesh of a topic.
func (ps *PubSub) MeshPeers(topic string) []peer.ID {
	var ids []peer.ID
	_ = ps.do(func(time.Time) {
		if t := ps.mesh.topics[topic]; t != nil {
			for _, p := range t.mesh.list {
				ids = append(ids, p.id)
			}
		}
	})
	return ids
}

// ListPeers returns the connected peers that are in the topic.
func (t *Topic) ListPeers() []peer.ID { return t.ps.ListPeers(t.st.name) }

// A RelayCancelFunc ends a relay. It may be called more than once.
type RelayCancelFunc func()

// Relay enters the topic to forward its messages, without a subscription.
func (t *Topic) Relay() (RelayCancelFunc, error) {
	if t.st.fanoutOnly {
		return nil, ErrFanoutOnlyTopic
	}
	err := t.use(func() error {
		t.handles.Add(1)
		return t.ps.do(func(now time.Time) { t.ps.enterTopic(now, t.st) })
	})
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() {
		_ = t.ps.do(func(now time.Time) { t.ps.leaveTopic(now, t.st) })
		t.handles.Add(-1)
	}), nil
}

// SetScoreParams sets the topic's score parameters.
func (t *Topic) SetScoreParams(p *TopicScoreParams) error {
	return t.use(func() error {
		if t.ps.scorer == nil {
			return errors.New("pubsub: peer scoring is off")
		}
		t.ps.scoreMu.Lock()
		defer t.ps.scoreMu.Unlock()
		return t.ps.scorer.setTopic(t.st.name, p)
	})
}

// An EventType says what happened to a peer.
type EventType int

const (
	// PeerJoin is a peer that entered the topic.
	PeerJoin EventType = iota
	// PeerLeave is a peer that left it, or the network.
	PeerLeave
)

// A PeerEvent is a peer that entered or left a topic.
type PeerEvent struct {
	Type EventType
	Peer peer.ID
}

// A TopicEventHandlerOpt is an option of EventHandler.
type TopicEventHandlerOpt func(*TopicEventHandler) error

// A TopicEventHandler tells of peers that enter and leave a topic. It keeps
// one event per peer: one who enters and leaves before anybody looks is none.
type TopicEventHandler struct {
	topic *Topic
	done  chan struct{}
	ready chan struct{}
	once  sync.Once

	mu     sync.Mutex // guards what follows
	events map[peer.ID]EventType
	order  []peer.ID
}

// EventHandler returns a handler that first tells of the peers that are in
// the topic already.
func (t *Topic) EventHandler(opts ...TopicEventHandlerOpt) (*TopicEventHandler, error) {
	h := &TopicEventHandler{
		topic: t, done: make(chan struct{}), ready: make(chan struct{}, 1), events: make(map[peer.ID]EventType),
	}
	for _, opt := range opts {
		if err := opt(h); err != nil {
			return nil, err
		}
	}
	err := t.use(func() error {
		t.handles.Add(1)
		return t.ps.do(func(time.Time) {
			t.st.handlers = append(t.st.handlers, h)
			if mt := t.ps.mesh.topics[t.st.name]; mt != nil {
				for _, id := range t.ps.idsOf(mt) {
					h.notify(PeerEvent{Type: PeerJoin, Peer: id})
				}
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// notify notes an event; it cancels one that undoes it.
func (h *TopicEventHandler) notify(ev PeerEvent) {
	h.mu.Lock()
	if old, ok := h.events[ev.Peer]; ok && old != ev.Type {
		delete(h.events, ev.Peer)
		h.order = slices.DeleteFunc(h.order, func(p peer.ID) bool { return p == ev.Peer })
	} else if !ok {
		h.events[ev.Peer] = ev.Type
		h.order = append(h.order, ev.Peer)
	}
	h.mu.Unlock()
	h.signal()
}

func (h *TopicEventHandler) signal() {
	select {
	case h.ready <- struct{}{}:
	default:
	}
}

// NextPeerEvent waits for the next event. Events of one peer come in order.
func (h *TopicEventHandler) NextPeerEvent(ctx context.Context) (PeerEvent, error) {
	for {
		if ev, ok := h.take(); ok {
			return ev, nil
		}
		select {
		case <-h.ready:
		case <-h.done:
			return PeerEvent{}, ErrSubscriptionCancelled
		case <-ctx.Done():
			return PeerEvent{}, ctx.Err()
		}
	}
}

func (h *TopicEventHandler) take() (PeerEvent, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.order) == 0 {
		return PeerEvent{}, false
	}
	id := h.order[0]
	h.order = h.order[1:]
	ev := PeerEvent{Type: h.events[id], Peer: id}
	delete(h.events, id)
	if len(h.order) > 0 {
		h.signal()
	}
	return ev, true
}

func (h *TopicEventHandler) end() { h.once.Do(func() { close(h.done) }) }

// Cancel ends the handler. It may be called more than once.
func (h *TopicEventHandler) Cancel() {
	h.once.Do(func() {
		close(h.done)
		t := h.topic
		_ = t.ps.do(func(time.Time) {
			t.st.handlers = slices.DeleteFunc(t.st.handlers, func(o *TopicEventHandler) bool { return o == h })
		})
		t.handles.Add(-1)
	})
}

// notifyTopic tells the handlers of a topic. It runs on the owner.
func (ps *PubSub) notifyTopic(topic string, ev PeerEvent) {
	if t := (*ps.topics.Load())[topic]; t != nil {
		for _, h := range t.handlers {
			h.notify(ev)
		}
	}
}

// peerLeft tells handlers that a peer left all its topics. It runs on the owner.
func (ps *PubSub) peerLeft(id peer.ID, topics map[string]*meshTopic) {
	for name := range topics {
		ps.notifyTopic(name, PeerEvent{Type: PeerLeave, Peer: id})
	}
}
