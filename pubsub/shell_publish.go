package pubsub

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	pb "github.com/muster-p2p/muster/pubsub/pb"
	"github.com/muster-p2p/muster/pubsub/wire"
)

// Errors of publishing.
var (
	// ErrNoPeers is returned with [WithRequirePeers] if nobody could be sent
	// the message.
	ErrNoPeers = errors.New("pubsub: no peers for the topic")
	// ErrDuplicateMessage is returned for a message whose id was seen before:
	// the same content again, where the id is a hash of it.
	ErrDuplicateMessage = errors.New("pubsub: message seen before")
	// ErrNilSignKey is returned for a nil private key.
	ErrNilSignKey = errors.New("pubsub: nil sign key")
	// ErrEmptyPeerID is returned for an empty author.
	ErrEmptyPeerID = errors.New("pubsub: empty peer ID")
)

// copyBelow is the payload size up to which a published message is copied
// into one piece with its envelope; larger payloads stay where they are.
const copyBelow = 4 << 10

// A PublishResult says what became of a published message.
type PublishResult struct {
	// ID is the message's id.
	ID string
	// Recipients is how many peers it was queued for, and Refused how many
	// had no room for it.
	Recipients, Refused int
}

// PublishOptions collects the options of one Publish.
type PublishOptions struct {
	ready        RouterReady
	key          crypto.PrivKey
	author       peer.ID
	customKey    bool
	local        bool
	requirePeers bool
	data         any
}

// A PubOpt is an option of Publish.
type PubOpt func(*PublishOptions) error

// A PubSubRouter answers a [RouterReady].
type PubSubRouter interface { //nolint:revive // the name that users of go-libp2p-pubsub know
	// EnoughPeers reports whether there are enough peers for the topic;
	// suggested, if above zero, says how many that are.
	EnoughPeers(topic string, suggested int) bool
}

// RouterReady decides whether to publish now.
type RouterReady func(rt PubSubRouter, topic string) (bool, error)

// MinTopicSize is ready when the topic has so many peers.
func MinTopicSize(size int) RouterReady {
	return func(rt PubSubRouter, topic string) (bool, error) { return rt.EnoughPeers(topic, size), nil }
}

// WithReadiness waits with publishing until ready says so.
func WithReadiness(ready RouterReady) PubOpt {
	return func(o *PublishOptions) error {
		o.ready = ready
		return nil
	}
}

// WithLocalPublication delivers the message to subscriptions of this process only.
func WithLocalPublication(local bool) PubOpt {
	return func(o *PublishOptions) error {
		o.local = local
		return nil
	}
}

// WithRequirePeers makes it an error if nobody could be sent the message.
func WithRequirePeers() PubOpt {
	return func(o *PublishOptions) error {
		o.requirePeers = true
		return nil
	}
}

// WithValidatorData sets the message's ValidatorData.
func WithValidatorData(data any) PubOpt {
	return func(o *PublishOptions) error {
		o.data = data
		return nil
	}
}

// ProvideKey returns an author and its key.
type ProvideKey func() (crypto.PrivKey, peer.ID)

// WithSecretKeyAndPeerId signs the message as another author.
func WithSecretKeyAndPeerId(key crypto.PrivKey, pid peer.ID) PubOpt { //nolint:revive // the name that users of go-libp2p-pubsub know
	return func(o *PublishOptions) error {
		if key == nil {
			return ErrNilSignKey
		}
		if pid == "" {
			return ErrEmptyPeerID
		}
		o.key, o.author, o.customKey = key, pid, true
		return nil
	}
}

// Publish publishes data, which must not be changed afterwards: a large
// payload is not copied. It returns an error if a validator of ours refuses
// the message, if it is too large, if it was published before, and
// ErrQueueFull if none of its recipients had room for it; with
// Config.Backpressure it waits for room instead, until the context is done.
func (t *Topic) Publish(ctx context.Context, data []byte, opts ...PubOpt) error {
	_, err := t.PublishResult(ctx, data, opts...)
	return err
}

// PublishResult is Publish that tells how many peers the message goes to.
func (t *Topic) PublishResult(ctx context.Context, data []byte, opts ...PubOpt) (res PublishResult, err error) {
	var o PublishOptions
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return res, err
		}
	}
	t.mu.RLock()
	closed := t.closed
	t.mu.RUnlock()
	switch {
	case closed:
		return res, ErrTopicClosed
	case t.ps.ctx.Err() != nil:
		return res, ErrClosed
	}
	if o.ready != nil {
		if err := t.awaitReady(ctx, o.ready); err != nil {
			return res, err
		}
	}
	m, err := t.ps.compose(t.st, data, &o)
	if err != nil {
		return res, err
	}
	return t.ps.publish(ctx, t.st, m, &o)
}

// Publish publishes to a topic, which it joins if need be.
//
// Deprecated: use [PubSub.Join] and [Topic.Publish].
func (ps *PubSub) Publish(topic string, data []byte, opts ...PubOpt) error {
	t, _, err := ps.join(topic, nil)
	if err != nil {
		return err
	}
	return t.Publish(ps.ctx, data, opts...)
}

// AwaitPeers waits until n peers, at least one, could be sent a message.
func (t *Topic) AwaitPeers(ctx context.Context, n int) error {
	return t.awaitReady(ctx, MinTopicSize(max(n, 1)))
}

// readyPoll is how often a [RouterReady] is asked again.
const readyPoll = 20 * time.Millisecond

func (t *Topic) awaitReady(ctx context.Context, ready RouterReady) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if d := t.ps.disc; d != nil && t.ps.enter() {
		go func() {
			defer t.ps.wg.Done()
			d.search(ctx, t.st.name)
		}()
	}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		if ok, err := ready(routerView{t.ps}, t.st.name); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-t.ps.ctx.Done():
			return ErrClosed
		}
	}
}

// A routerView is the router as a RouterReady sees it.
type routerView struct{ ps *PubSub }

// EnoughPeers implements PubSubRouter.
func (v routerView) EnoughPeers(topic string, suggested int) bool {
	if suggested <= 0 {
		suggested = max(v.ps.cfg.Params.Dlo, v.ps.cfg.RandomPeers)
	}
	enough := false
	_ = v.ps.do(func(now time.Time) {
		t := v.ps.mesh.topics[topic]
		if t == nil {
			return
		}
		enough = v.ps.mesh.reach(now, t) >= suggested || t.mesh.len() >= v.ps.cfg.Params.Dhi
	})
	return enough
}

// signScratch is memory for the bytes that are signed, as long as a message.
// The collector takes back what is not in use.
var signScratch = sync.Pool{New: func() any { return new([]byte) }}

// compose makes, signs and encodes a message of ours.
func (ps *PubSub) compose(t *topicState, data []byte, o *PublishOptions) (*Message, error) {
	m := &Message{ReceivedFrom: ps.self, Local: o.local, ValidatorData: o.data}
	if data == nil {
		data = []byte{}
	}
	f := wire.Fields{Data: data, Topic: t.name}
	key, author := ps.key, ps.author
	if o.customKey {
		key, author = o.key, []byte(o.author)
	}
	if !t.noAuthor || o.customKey {
		binary.BigEndian.PutUint64(m.seqno[:], ps.seqno.Add(1))
		f.From, f.Seqno = author, m.seqno[:]
	}
	if t.policy.mustSign() && !t.noAuthor || o.customKey {
		if err := sign(&f, key, peer.ID(author)); err != nil {
			return nil, err
		}
	}
	if n := wire.PublishSize(f.Size()); n > ps.cfg.MaxMessageSize {
		return nil, fmt.Errorf("%w: an RPC of %d bytes, at most %d", ErrMessageTooLarge, n, ps.cfg.MaxMessageSize)
	}
	m.encode(&f)
	m.value.Topic = &t.name
	m.Message = &m.value
	if t.idFn == nil {
		m.ID = MessageIDGo(m.Message)
	} else {
		m.ID = t.idFn(m.Message)
	}
	m.key = ps.seen.hash.key(m.ID)
	return m, nil
}

func sign(f *wire.Fields, key crypto.PrivKey, author peer.ID) error {
	scratch := signScratch.Get().(*[]byte)
	b, err := signFields(f, key, author, *scratch)
	*scratch = b
	signScratch.Put(scratch)
	return err
}

// encode encodes f, of which a large payload is not copied.
func (m *Message) encode(f *wire.Fields) {
	m.size = f.Size()
	m.value = pb.Message{From: f.From, Data: f.Data, Seqno: f.Seqno, Signature: f.Signature, Key: f.Key}
	if len(f.Data) >= copyBelow {
		m.enc.head = f.AppendHead(make([]byte, 0, headRoom))
		m.enc.data = f.Data
		m.enc.tail = f.AppendTail(nil)
		return
	}
	b := f.AppendHead(make([]byte, 0, wire.PublishSize(m.size)))
	start := len(b)
	b = append(b, f.Data...)
	m.value.Data = b[start:len(b):len(b)]
	m.enc.head = f.AppendTail(b)
}

// headRoom holds what stands before the payload of a signed message.
const headRoom = 64

// publish validates a message of ours, sends it, and delivers it here.
func (ps *PubSub) publish(ctx context.Context, t *topicState, m *Message, o *PublishOptions) (PublishResult, error) {
	res := PublishResult{ID: m.ID}
	now := ps.now()
	if ps.seen.claim(now, m.key) != claimNew {
		return res, ErrDuplicateMessage
	}
	if err := ps.validateLocal(ctx, t, m); err != nil {
		ps.seen.settle(now, m.key, false)
		return res, err
	}
	ps.trace.publish(m)
	if !o.local {
		if err := ps.sendOwn(ctx, t, m, o, &res); err != nil {
			ps.seen.settle(now, m.key, false)
			ps.stats.publishRefused.Add(1)
			return res, err
		}
	}
	if o.local {
		ps.deliverOwn(t, m)
	} else {
		ps.published(t, m)
	}
	return res, nil
}

// published does what follows once a message of ours is on its way.
func (ps *PubSub) published(t *topicState, m *Message) {
	ps.remember(t, m)
	ps.deliverOwn(t, m)
}

func (ps *PubSub) deliverOwn(t *topicState, m *Message) {
	ps.seen.settle(ps.now(), m.key, true)
	ps.stats.published.Add(1)
	ps.trace.deliver(m)
	t.deliver(ps, m)
}

// recipients returns the peers that a message of ours goes to. For a topic
// that we are not in the router picks fanout peers.
func (ps *PubSub) recipients(t *topicState) ([]*Peer, error) {
	if !t.wanted.Load() {
		if err := ps.do(func(now time.Time) { ps.mesh.publishing(now, t.name) }); err != nil {
			return nil, err
		}
	}
	tg := t.targets.Load()
	switch {
	case tg == nil:
		return nil, nil
	case ps.cfg.RandomPeers > 0:
		return ps.draw(tg, nil, ps.self), nil
	}
	return tg.publish, nil
}

// publishPatience is how long a Publish with Config.Backpressure waits for one
// recipient that takes nothing: longer than any that still reads needs for a
// batch, and shorter than the time after which its stream is reset.
const publishPatience = 5 * time.Second

// sendOwn queues a message of ours for its recipients.
func (ps *PubSub) sendOwn(ctx context.Context, t *topicState, m *Message, o *PublishOptions, res *PublishResult) error {
	to, err := ps.recipients(t)
	if err != nil {
		return err
	}
	ln := ps.laneOf(m, LanePublish)
	var last error
	for _, p := range to {
		var err error
		if ps.cfg.Backpressure {
			err = p.enqueueWait(ctx, m, ln, publishPatience)
		} else {
			err = p.enqueue(m, ln)
		}
		if err != nil {
			last = err
			res.Refused++
			continue
		}
		res.Recipients++
	}
	switch {
	case res.Recipients > 0:
		return nil
	case last != nil && !errors.Is(last, ErrPeerGone):
		return fmt.Errorf("pubsub: publish to %d peers: %w", res.Refused, last)
	case o.requirePeers:
		return ErrNoPeers
	}
	return nil
}
