package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/link"
)

// A linkReport tells of a link as it goes: to people in words, to programs in
// objects.
type linkReport struct {
	ev    events
	start time.Time // when it was asked for, or came
	peer  peer.ID
	conn  *link.Conn
	done  chan struct{}
}

// reportLink tells that conn is there, and of its paths until it is closed.
// start is when this end asked for it, zero at the end that was called.
func reportLink(ev events, start time.Time, conn *link.Conn, prefix string) *linkReport {
	r := &linkReport{ev: ev, start: start, peer: conn.RemotePeer(), conn: conn, done: make(chan struct{})}
	at, when := firstPath(conn)
	line := fmt.Sprintf("%sconnected to %s, path %s %s", prefix, r.peer, at.Kind, at.Addr)
	object := map[string]any{"event": "connected", "peer": r.peer.String(), "path": at.Kind.String(), "addr": at.Addr.String()}
	if start.IsZero() {
		r.start = time.Now()
	} else {
		took := when.Sub(start)
		line += fmt.Sprintf(", in %s", took.Round(time.Millisecond))
		object["ms"] = millis(took)
	}
	ev.say(line, object)
	go func() {
		defer close(r.done)
		r.follow(at, prefix)
	}()
	return r
}

// firstPath is the path that conn began with, and when: a faster one may have
// come since.
func firstPath(conn *link.Conn) (link.PathInfo, time.Time) {
	for {
		select {
		case e, open := <-conn.Events():
			if open && e.Kind != link.Switched {
				continue
			}
			if open {
				return e.Path, e.At
			}
		default:
		}
		return conn.Path(), time.Now()
	}
}

// follow tells when the path changes.
func (r *linkReport) follow(at link.PathInfo, prefix string) {
	for e := range r.conn.Events() {
		after := e.At.Sub(r.start)
		switch e.Kind {
		case link.Switched:
			if e.Path.Kind == at.Kind && e.Path.Addr == at.Addr {
				continue
			}
			at = e.Path
			r.ev.say(fmt.Sprintf("%spath: %s %s after %s", prefix, at.Kind, at.Addr, after.Round(time.Millisecond)),
				map[string]any{"event": "path", "peer": r.peer.String(), "path": at.Kind.String(), "addr": at.Addr.String(), "ms": millis(after)})
		case link.Suspended:
			r.ev.say(prefix+"path: none, waiting for one", map[string]any{"event": "path", "peer": r.peer.String(), "path": "none", "ms": millis(after)})
		case link.PathUp, link.PathDown, link.Resumed, link.Closed:
			// Switched says what of it matters.
		}
	}
}

// closed tells how the link ended; the connection is closed by then.
func (r *linkReport) closed(prefix string, sent, received int64, err error) {
	<-r.done
	st, took := r.conn.Stats(), time.Since(r.start)
	object := map[string]any{
		"event": "closed", "peer": r.peer.String(), "sent": sent, "received": received, "ms": millis(took), "switches": st.Switches, "resumes": st.Resumes,
		"relay": st.RelaySent + st.RelayReceived, "direct": st.DirectSent + st.DirectReceived,
	}
	line := fmt.Sprintf("%sclosed sent=%d received=%d dur=%s", prefix, sent, received, took.Round(time.Millisecond))
	if err != nil {
		object["error"] = err.Error()
		line += ": " + err.Error()
	}
	r.ev.say(line, object)
}

// An interruptible link is broken off by Close: what was only begun must not look
// complete to the peer.
type interruptible struct{ *link.Conn }

func (c interruptible) Close() error {
	c.Abort("interrupted")
	return nil
}

// pipeLink is a pipe over a link until both directions have ended.
func pipeLink(ctx context.Context, e *env, ev events, start time.Time, conn *link.Conn) error {
	report := reportLink(ev, start, conn, "")
	// Input that cannot be read is not the end of it.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	in := &reading{r: e.stdin, failed: func(err error) { cancel(fail(exitLocal, fmt.Errorf("read the input: %w", err), "")) }}
	p := pipe{conn: interruptible{conn}, in: in, out: e.stdout, interactive: isTerminal(e.stdin), over: conn.Done()}
	if !isTerminal(e.stdin) && !isTerminal(e.stdout) && !ev.json {
		p.progress = newProgress(e.stderr, e.stdin)
	}
	sent, received, err := p.run(ctx)
	if err != nil {
		conn.Abort("interrupted") // in any case before Close, which would say that this was all
	}
	closeErr := conn.Close() // waits until the peer has everything
	if err == nil && closeErr != nil && !p.interactive {
		err = fail(exitOther, fmt.Errorf("the peer may not have all of it: %w", closeErr), "")
	}
	report.closed("", sent, received, nil)
	for _, known := range []error{link.ErrRefused, link.ErrIdentity} {
		if errors.Is(err, known) {
			return linkFailure(known)
		}
	}
	return err
}
