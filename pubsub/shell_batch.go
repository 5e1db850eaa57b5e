package pubsub

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// A MessageBatch collects messages that are published together: each peer is
// sent them in another order, so that the peers have different ones to give
// to each other before any of them has all. The zero value is empty.
type MessageBatch struct {
	mu   sync.Mutex // guards msgs
	msgs []batched
}

type batched struct {
	t *topicState
	m *Message
}

// take empties the batch.
func (b *MessageBatch) take() []batched {
	b.mu.Lock()
	defer b.mu.Unlock()
	msgs := b.msgs
	b.msgs = nil
	return msgs
}

// BatchPublishOptions collects the options of one PublishBatch, of which
// there are none yet.
type BatchPublishOptions struct{}

// A BatchPubOpt is an option of PublishBatch.
type BatchPubOpt func(*BatchPublishOptions) error

// AddToBatch composes, signs and validates a message, and adds it to a batch.
// It is delivered and sent by [PubSub.PublishBatch].
func (t *Topic) AddToBatch(ctx context.Context, batch *MessageBatch, data []byte, opts ...PubOpt) error {
	var o PublishOptions
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return err
		}
	}
	return t.use(func() error {
		m, err := t.ps.compose(t.st, data, &o)
		if err != nil {
			return err
		}
		if err := t.ps.validateLocal(ctx, t.st, m); err != nil {
			return err
		}
		batch.mu.Lock()
		defer batch.mu.Unlock()
		batch.msgs = append(batch.msgs, batched{t.st, m})
		return nil
	})
}

// PublishBatch publishes and empties a batch. The error joins those of the
// messages that could not be published; the others are.
func (ps *PubSub) PublishBatch(batch *MessageBatch, opts ...BatchPubOpt) error {
	var o BatchPublishOptions
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return err
		}
	}
	byTopic := map[*topicState][]*Message{}
	var order []*topicState
	for _, b := range batch.take() {
		if byTopic[b.t] == nil {
			order = append(order, b.t)
		}
		byTopic[b.t] = append(byTopic[b.t], b.m)
	}
	var errs []error
	for _, t := range order {
		errs = append(errs, ps.publishBatch(t, byTopic[t]))
	}
	return errors.Join(errs...)
}

// publishBatch publishes messages of one topic: the i-th recipient is sent
// them from the i-th on, and then the ones before.
func (ps *PubSub) publishBatch(t *topicState, msgs []*Message) error {
	now := ps.now()
	var errs []error
	msgs = slices.DeleteFunc(msgs, func(m *Message) bool {
		if ps.seen.claim(now, m.key) == claimNew {
			return false
		}
		errs = append(errs, ErrDuplicateMessage)
		return true
	})
	to, err := ps.recipients(t)
	if err != nil {
		return err
	}
	sent := make([]int, len(msgs))
	for i, p := range to {
		for j := range msgs {
			k := (i + j) % len(msgs)
			if p.enqueue(msgs[k], ps.laneOf(msgs[k], LanePublish)) == nil {
				sent[k]++
			}
		}
	}
	for k, m := range msgs {
		if sent[k] == 0 && len(to) > 0 {
			ps.seen.settle(now, m.key, false)
			ps.stats.publishRefused.Add(1)
			errs = append(errs, ErrQueueFull)
			continue
		}
		ps.published(t, m)
	}
	return errors.Join(errs...)
}
