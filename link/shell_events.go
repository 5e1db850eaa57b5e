package link

import (
	"os"
	"time"
)

// maxEvents bounds the events that wait for a reader; the oldest are dropped.
const maxEvents = 32

// An EventKind is what happened to a link.
type EventKind uint8

// Kinds of events.
const (
	PathUp    EventKind = iota + 1 // a path came about
	PathDown                       // a path is gone
	Switched                       // the path that is sent on is another one now
	Suspended                      // there is no path; the link waits for one
	Resumed                        // there is one again
	Closed                         // the link is over; the last event
)

// String returns the kind in words.
func (k EventKind) String() string {
	switch k {
	case PathUp:
		return "path up"
	case PathDown:
		return "path down"
	case Switched:
		return "switched"
	case Suspended:
		return "suspended"
	case Resumed:
		return "resumed"
	case Closed:
		return "closed"
	default:
		return "unknown"
	}
}

// An Event says what happened to a link, when, and to which path.
type Event struct {
	Kind EventKind
	At   time.Time
	Path PathInfo
	Err  error // of PathDown and Closed
}

// Events returns what happens to the link. The channel is closed after Closed.
// If nobody reads, the oldest of 32 events are dropped.
func (c *Conn) Events() <-chan Event { return c.events }

// emit sends an event. The lock is held, so that there is one sender.
func (c *Conn) emit(ev Event) {
	for {
		select {
		case c.events <- ev:
			return
		default:
		}
		select {
		case <-c.events:
		default:
		}
	}
}

// A deadline wakes waiters when it passes.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// set is called with the lock held.
func (d *deadline) set(at time.Time, wake func()) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.at = at; !at.IsZero() {
		d.timer = time.AfterFunc(time.Until(at), wake)
	}
}

// SetDeadline sets both deadlines. Reads and writes that wait at that time
// return [os.ErrDeadlineExceeded]; the link goes on.
func (c *Conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return os.ErrClosed
	}
	c.setRead(t)
	c.setWrite(t)
	return nil
}

// SetReadDeadline sets the deadline of reads.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return os.ErrClosed
	}
	c.setRead(t)
	return nil
}

// SetWriteDeadline sets the deadline of writes.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return os.ErrClosed
	}
	c.setWrite(t)
	return nil
}

func (c *Conn) setRead(t time.Time) {
	c.readDeadline.set(t, c.wakeReaders)
	c.readable.Broadcast()
}

func (c *Conn) setWrite(t time.Time) {
	c.writeDeadline.set(t, c.wakeWriters)
	c.writable.Broadcast()
}

func (c *Conn) wakeReaders() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readable.Broadcast()
}

func (c *Conn) wakeWriters() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writable.Broadcast()
}
