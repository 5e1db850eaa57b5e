// Package groupcommit lets concurrent callers share the cost of a commit. It
// hides the queue between them and the one goroutine that commits: its bound,
// callers that give up while they wait, and closing under load.
//
// Callers use [Queue.Do]. The committing goroutine loops over [Queue.Next],
// which hands it everybody who has come since the last commit, and answers
// each [Call] with Finish. Groups form by themselves: while one commit is on
// its way the next group gathers, so nobody waits for company and the group
// grows with the load.
package groupcommit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// Errors of [Queue.Do].
var (
	ErrFull   = errors.New("groupcommit: queue full")
	ErrClosed = errors.New("groupcommit: closed")

	// ErrWithdrawn is joined with the context's error when a caller gave up
	// before its call was taken: it has not been, and will not be, committed.
	ErrWithdrawn = errors.New("groupcommit: withdrawn before its turn")
)

// A Queue passes calls from many goroutines to one.
type Queue[T any] struct {
	calls   chan *Call[T]
	answers atomic.Uint64 // that have been given
	ready   chan struct{} // holds a token when a call came, perhaps since taken
	closing chan struct{} // closed by Close: no new calls, Next returns nothing
	done    chan struct{} // closed by Done: nobody will answer any more
	once    sync.Once     // of closing
	ended   sync.Once     // of done
}

// New returns a queue that holds at most limit waiting calls.
func New[T any](limit int) *Queue[T] {
	return &Queue[T]{
		calls:   make(chan *Call[T], limit),
		ready:   make(chan struct{}, 1),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
}

// A Call is one caller's value on its way.
type Call[T any] struct {
	Value T

	queue  *Queue[T]
	before uint64 // answers given before it came
	state  atomic.Uint32
	answer chan error
}

// The states of a call: waiting, then taken or withdrawn; taken, then left if
// its caller gave up before it was answered.
const (
	waiting uint32 = iota
	taken
	withdrawn
	left
)

// Finish answers the caller. It is called once per call.
func (c *Call[T]) Finish(err error) {
	c.queue.answers.Add(1) // first: a caller that comes back must find it counted
	c.answer <- err
}

// Left reports whether the caller has given up on a call that was taken. Who
// commits again after a failure leaves such calls out.
func (c *Call[T]) Left() bool { return c.state.Load() == left }

// Do hands v to the committing goroutine and waits for its answer. It returns
// ErrFull at once if the queue is full, and ErrClosed after Close. If ctx ends
// first it returns the context's error, joined with ErrWithdrawn if the call
// had not been taken; otherwise it may yet be committed.
func (q *Queue[T]) Do(ctx context.Context, v T) error {
	if err := ctx.Err(); err != nil {
		return errors.Join(ErrWithdrawn, err)
	}
	select {
	case <-q.closing:
		return ErrClosed
	default:
	}
	c := &Call[T]{Value: v, queue: q, before: q.answers.Load(), answer: make(chan error, 1)}
	select {
	case q.calls <- c:
	default:
		return ErrFull
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
	select {
	case err := <-c.answer:
		return err
	case <-ctx.Done():
		if c.state.CompareAndSwap(waiting, withdrawn) {
			return errors.Join(ErrWithdrawn, ctx.Err())
		}
		c.state.CompareAndSwap(taken, left)
		return ctx.Err()
	case <-q.done:
		select { // it may have been answered just before
		case err := <-c.answer:
			return err
		default:
			return ErrClosed
		}
	}
}

// Len returns the number of calls in the queue, withdrawn ones included.
func (q *Queue[T]) Len() int { return len(q.calls) }

// Closing is closed when Close has been called.
func (q *Queue[T]) Closing() <-chan struct{} { return q.closing }

// Wait returns when a call waits for Next, when the queue is closing, or when
// ctx ends. It serves a committing goroutine that has other things to wait for.
func (q *Queue[T]) Wait(ctx context.Context) {
	for len(q.calls) == 0 {
		select {
		case <-q.ready:
		case <-q.closing:
			return
		case <-ctx.Done():
			return
		}
	}
}

// Next waits for a call and appends it, and those that wait behind it, up to
// limit calls, to group. It returns group unchanged once the queue is closing.
// Only the committing goroutine calls it.
func (q *Queue[T]) Next(group []*Call[T], limit int) []*Call[T] {
	before := len(group)
	for len(group) == before {
		select {
		case <-q.closing:
			return group
		default:
		}
		select {
		case <-q.closing:
			return group
		case c := <-q.calls:
			group = c.take(group)
		}
	}
	return q.Take(group, limit-1)
}

// Take is Next without waiting: it returns group unchanged if nobody waits who
// has not withdrawn.
func (q *Queue[T]) Take(group []*Call[T], limit int) []*Call[T] {
	limit += len(group)
	for len(group) < limit {
		select {
		case c := <-q.calls:
			group = c.take(group)
		default:
			return group
		}
	}
	return group
}

func (c *Call[T]) take(group []*Call[T]) []*Call[T] {
	if c.state.CompareAndSwap(waiting, taken) {
		return append(group, c)
	}
	return group
}

// Close stops the queue: no call is accepted or handed out any more. It does
// not wait. It may be called more than once.
func (q *Queue[T]) Close() { q.once.Do(func() { close(q.closing) }) }

// Done is called after Close, when the committing goroutine will answer nobody
// any more. Callers that still wait get ErrClosed. It may be called more than
// once.
func (q *Queue[T]) Done() { q.ended.Do(func() { close(q.done) }) }
