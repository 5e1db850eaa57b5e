package pubsub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ValidationResult is the decision of a [ValidatorEx].
type ValidationResult int

const (
	// ValidationAccept delivers the message and forwards it.
	ValidationAccept = ValidationResult(0)
	// ValidationReject drops the message and lowers the score of everyone
	// who sent it.
	ValidationReject = ValidationResult(1)
	// ValidationIgnore drops the message, and nobody is the worse for it.
	ValidationIgnore = ValidationResult(2)

	// validationThrottled ignores a message for want of room; another copy of
	// it may fare better.
	validationThrottled = ValidationResult(-1)
)

// A Validator accepts a message or rejects it.
type Validator func(context.Context, peer.ID, *Message) bool

// A ValidatorEx accepts, rejects or ignores a message. The peer is the one
// that sent it to us. It may set the message's ValidatorData, must return when
// its context is done, and runs concurrently with itself.
type ValidatorEx func(context.Context, peer.ID, *Message) ValidationResult

// A DefaultValidator is a validator for all topics: a Validator, a
// ValidatorEx, or a function of the type of either.
type DefaultValidator struct {
	Validate any
	Options  []ValidatorOpt
}

// A ValidatorOpt is an option of a validator.
type ValidatorOpt func(*validator) error

// WithValidatorTimeout bounds an asynchronous validator in time: its context
// ends, and what it has not decided by then is ignored. The default is no bound.
func WithValidatorTimeout(timeout time.Duration) ValidatorOpt {
	return func(v *validator) error {
		v.timeout = timeout
		return nil
	}
}

// WithValidatorConcurrency bounds how many messages an asynchronous validator
// has at a time; what comes beyond is dropped and counted, and may be taken
// when it comes from another peer. The default is DefaultValidateConcurrency.
func WithValidatorConcurrency(n int) ValidatorOpt {
	return func(v *validator) error {
		if n <= 0 {
			return fmt.Errorf("pubsub: validator concurrency %d", n)
		}
		v.concurrency = n
		return nil
	}
}

// WithValidatorInline runs the validator on the goroutine that reads from the
// sender, whose next message waits for it. It is for validators that are quick.
func WithValidatorInline(inline bool) ValidatorOpt {
	return func(v *validator) error {
		v.inline = inline
		return nil
	}
}

// A ValidationError is returned by Publish for a message that a validator of
// ours did not accept.
type ValidationError struct {
	// Reason is one of the Reject constants.
	Reason string
}

// Error implements error.
func (e ValidationError) Error() string { return "pubsub: " + e.Reason }

// A validator is one validation function with its bounds.
type validator struct {
	fn          ValidatorEx
	inline      bool
	timeout     time.Duration
	concurrency int
	turn        chan struct{}
}

func newValidator(topic string, val any, opts []ValidatorOpt) (*validator, error) {
	v := &validator{concurrency: DefaultValidateConcurrency}
	switch f := val.(type) {
	case ValidatorEx:
		v.fn = f
	case func(context.Context, peer.ID, *Message) ValidationResult:
		v.fn = f
	case Validator:
		v.fn = binary2(f)
	case func(context.Context, peer.ID, *Message) bool:
		v.fn = binary2(f)
	default:
		return nil, fmt.Errorf("pubsub: %T is no validator for topic %q", val, topic)
	}
	for _, opt := range opts {
		if err := opt(v); err != nil {
			return nil, err
		}
	}
	v.turn = make(chan struct{}, v.concurrency)
	return v, nil
}

func binary2(f Validator) ValidatorEx {
	return func(ctx context.Context, p peer.ID, m *Message) ValidationResult {
		if f(ctx, p, m) {
			return ValidationAccept
		}
		return ValidationReject
	}
}

// RegisterTopicValidator adds a validator for a topic: a Validator, a
// ValidatorEx, or a function of the type of either. A topic may have several:
// all have to accept, and one that rejects outweighs one that ignores.
func (ps *PubSub) RegisterTopicValidator(topic string, val any, opts ...ValidatorOpt) error {
	v, err := newValidator(topic, val, opts)
	if err != nil {
		return err
	}
	ps.valMu.Lock()
	ps.validators[topic] = append(ps.validators[topic], v)
	ps.valMu.Unlock()
	ps.storeValidators(topic)
	return nil
}

// UnregisterTopicValidator removes all validators of a topic.
func (ps *PubSub) UnregisterTopicValidator(topic string) error {
	ps.valMu.Lock()
	_, ok := ps.validators[topic]
	delete(ps.validators, topic)
	ps.valMu.Unlock()
	if !ok {
		return fmt.Errorf("pubsub: topic %q has no validator", topic)
	}
	ps.storeValidators(topic)
	return nil
}

// storeValidators puts the validators of a topic where messages find them.
func (ps *PubSub) storeValidators(topic string) {
	t := (*ps.topics.Load())[topic]
	if t == nil {
		return
	}
	ps.valMu.Lock()
	defer ps.valMu.Unlock()
	var all validators
	for _, v := range append(append([]*validator(nil), ps.defaults...), ps.validators[topic]...) {
		if v.inline {
			all.inline = append(all.inline, v)
		} else {
			all.async = append(all.async, v)
		}
	}
	t.validators.Store(&all)
}

// validators are those of one topic.
type validators struct{ inline, async []*validator }

// runValidators validates a message and settles what becomes of it, at once
// if no validator is asynchronous.
func (ps *PubSub) runValidators(now time.Time, p *Peer, t *topicState, m *Message) {
	vs := t.validators.Load()
	if vs == nil {
		ps.settle(now, p, t, m, ValidationAccept)
		return
	}
	res := ps.runAll(ps.ctx, vs.inline, m)
	if res != ValidationAccept || len(vs.async) == 0 {
		ps.settle(now, p, t, m, res)
		return
	}
	release, ok := ps.takeTurns(vs.async)
	if !ok {
		ps.settle(now, p, t, m, validationThrottled)
		return
	}
	ps.wg.Go(func() {
		res := ps.runAll(ps.ctx, vs.async, m)
		release()
		ps.settle(ps.now(), p, t, m, res)
	})
}

// takeTurns takes a place in every bound on asynchronous validators, or none.
func (ps *PubSub) takeTurns(vs []*validator) (release func(), ok bool) {
	turns := make([]chan struct{}, 0, 1+len(vs))
	turns = append(turns, ps.throttle)
	for _, v := range vs {
		turns = append(turns, v.turn)
	}
	taken := 0
	release = func() {
		for _, c := range turns[:taken] {
			<-c
		}
	}
	for _, c := range turns {
		select {
		case c <- struct{}{}:
			taken++
		default:
			release()
			return nil, false
		}
	}
	return release, true
}

// runAll runs validators one after the other until one rejects.
func (ps *PubSub) runAll(ctx context.Context, vs []*validator, m *Message) ValidationResult {
	res := ValidationAccept
	for _, v := range vs {
		switch r := v.run(ctx, ps, m); r {
		case ValidationAccept:
		case ValidationReject:
			return r
		default:
			res = ValidationIgnore
		}
	}
	return res
}

// run calls the validator; a panic in it is contained and ignores the message.
func (v *validator) run(ctx context.Context, ps *PubSub, m *Message) (res ValidationResult) {
	if v.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, v.timeout)
		defer cancel()
	}
	defer func() {
		if e := recover(); e != nil {
			ps.log.Error("a validator panicked", "topic", m.GetTopic(), "panic", e)
			res = ValidationIgnore
		}
	}()
	res = v.fn(ctx, m.ReceivedFrom, m)
	if v.timeout > 0 && ctx.Err() != nil {
		return ValidationIgnore
	}
	return res
}

// settle does what a validation came to.
func (ps *PubSub) settle(now time.Time, p *Peer, t *topicState, m *Message, res ValidationResult) {
	switch res {
	case ValidationAccept:
		ps.accept(now, p, t, m)
	case ValidationReject:
		ps.seen.settle(now, m.key, true)
		ps.stats.rejected.Add(1)
		ps.gated(p, gaterOutcome{kind: gaterRejected})
		ps.withScorer(func(s *scorer) { s.reject(now, m.ID, m.ReceivedFrom, t.name) })
		ps.rescore(p)
		ps.trace.reject(m, RejectValidationFailed)
	case validationThrottled:
		ps.seen.settle(now, m.key, false)
		ps.stats.throttled.Add(1)
		ps.withScorer(func(s *scorer) { s.ignore(now, m.ID) })
		ps.gaterThrottled(now)
		ps.trace.reject(m, RejectValidationThrottled)
	default:
		ps.seen.settle(now, m.key, true)
		ps.stats.ignored.Add(1)
		ps.gated(p, gaterOutcome{kind: gaterIgnored})
		ps.withScorer(func(s *scorer) { s.ignore(now, m.ID) })
		ps.trace.reject(m, RejectValidationIgnored)
	}
}

// validateLocal runs all validators on a message of our own.
func (ps *PubSub) validateLocal(ctx context.Context, t *topicState, m *Message) error {
	vs := t.validators.Load()
	if vs == nil {
		return nil
	}
	res := ps.runAll(ctx, vs.inline, m)
	if res == ValidationAccept {
		res = ps.runAll(ctx, vs.async, m)
	}
	switch res {
	case ValidationAccept:
		return nil
	case ValidationReject:
		ps.trace.reject(m, RejectValidationFailed)
		return ValidationError{Reason: RejectValidationFailed}
	default:
		ps.trace.reject(m, RejectValidationIgnored)
		return errors.Join(ValidationError{Reason: RejectValidationIgnored}, ctx.Err())
	}
}
