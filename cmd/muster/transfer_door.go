package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/rdv"
)

// goneWait is how long a second caller waits for the link of the first one to
// lose its path: a link notices within 20 seconds that nobody is there.
const goneWait = 25 * time.Second

// goneEvery is how often it is looked at meanwhile.
const goneEvery = 50 * time.Millisecond

// acceptPause is between two attempts to wait at a server that is away.
const acceptPause = 2 * time.Second

// goodbye is how long an interrupted transfer has for its last words.
const goodbye = 3 * time.Second

var errReplaced = errors.New("the other end has come again")

// A door lets in one peer at a time for a transfer, and the next one when that
// one broke off. A link keeps what it has for minutes after its peer was killed;
// who comes again in the meantime takes its place.
type door struct {
	c       *caller
	show    *transferShow
	m       link.Meeting
	l       *muster.Listener // nil: by ticket only
	allow   []peer.ID
	timeout time.Duration // without a peer; 0 is for ever

	// do runs a transfer and closes the link.
	do func(ctx context.Context, conn *link.Conn) error

	// renew, if not nil, is called when the meeting has run out.
	renew func(ctx context.Context) (link.Meeting, error)
}

// A visit is a transfer under way.
type visit struct {
	conn   *link.Conn
	cancel context.CancelCauseFunc
	done   chan error
}

// serve returns when a transfer has come to an end that is not for trying again.
func (d *door) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	callers := make(chan *link.Conn)
	failed := make(chan error, 2)
	ends := make(chan struct{}, 2)
	run := func(accept func(context.Context) (*link.Conn, error)) {
		defer func() { ends <- struct{}{} }()
		if err := d.accept(ctx, accept, callers); err != nil {
			failed <- err
		}
	}
	ways := 1
	go run(d.byTicket)
	if d.l != nil {
		ways = 2
		go run(d.l.Accept)
	}
	defer func() {
		cancel()
		for range ways {
			<-ends
		}
	}()
	return d.attend(ctx, callers, failed, ways)
}

// attend takes callers one after the other. Of two at once the second one waits
// a while: the first may be gone, which a link does not notice at once.
func (d *door) attend(ctx context.Context, callers <-chan *link.Conn, failed <-chan error, ways int) error {
	var now *visit
	var next *link.Conn // who waits, if now is there
	var nextUntil time.Time
	defer func() {
		d.sendAway(next, "closing")
		if now != nil {
			now.finish()
		}
	}()
	look := time.NewTicker(goneEvery)
	defer look.Stop()
	idleSince := time.Now()
	for {
		var done <-chan error
		if now != nil {
			done = now.done
			idleSince = time.Now()
		}
		var err error
		over := false // now is, with err
		select {
		case conn := <-callers:
			switch {
			case now == nil:
				now = d.begin(ctx, conn)
			case next == nil:
				next, nextUntil = conn, time.Now().Add(goneWait)
			default:
				d.sendAway(conn, "busy with another peer")
			}
		case err = <-done:
			over = true
		case <-look.C:
			switch {
			case next != nil && now.conn.Path().Kind == 0:
				err, over = now.replace(), true
			case next != nil && time.Now().After(nextUntil):
				d.sendAway(next, "busy with another peer")
				next = nil
			case now == nil && d.timeout > 0 && time.Since(idleSince) > d.timeout:
				return fail(exitTimeout, fmt.Errorf("nobody came for %s", d.timeout), "")
			}
		case err := <-failed:
			if ways--; ways == 0 && now == nil {
				return linkFailure(err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if !over {
			continue
		}
		now = nil
		if !errors.Is(err, errReplaced) {
			if !comesAgain(ctx, err) {
				return err
			}
			d.show.ev.say(strings.TrimPrefix(err.Error(), "transfer: ")+"; waiting for the other end to come again",
				map[string]any{"event": "broken", "error": err.Error()})
		}
		if next != nil {
			now, next = d.begin(ctx, next), nil
		}
	}
}

// sendAway breaks off a link that nobody attends to.
func (d *door) sendAway(conn *link.Conn, why string) {
	if conn != nil {
		conn.Abort(why)
	}
}

func (d *door) begin(ctx context.Context, conn *link.Conn) *visit {
	ctx, cancel := context.WithCancelCause(ctx)
	v := &visit{conn: conn, cancel: cancel, done: make(chan error, 1)}
	go func() { v.done <- d.do(ctx, conn) }()
	return v
}

// replace breaks a visit off, and returns how it ended: the transfer may have
// been done just then.
func (v *visit) replace() error {
	v.cancel(errReplaced)
	v.conn.Abort("another transfer takes its place")
	return <-v.done
}

// finish has a visit say goodbye when its context has ended, and breaks it off
// if that takes long.
func (v *visit) finish() {
	v.cancel(nil)
	patience := time.AfterFunc(goodbye, func() { v.conn.Abort("interrupted") })
	defer patience.Stop()
	<-v.done //nolint:errcheck // why it broke off is known
}

// accept hands on whoever comes, until ctx ends.
func (d *door) accept(ctx context.Context, accept func(context.Context) (*link.Conn, error), callers chan<- *link.Conn) error {
	came := false
	for {
		conn, err := accept(ctx)
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Abort("closing")
			}
			return nil
		case err == nil:
			came = true
			select {
			case callers <- conn:
			case <-ctx.Done():
				conn.Abort("closing")
				return nil
			}
		case !came: // what is wrong was wrong from the start
			return err
		default:
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// byTicket waits for who has the ticket; one that has run out is renewed.
func (d *door) byTicket(ctx context.Context) (*link.Conn, error) {
	conn, err := d.c.awaitTicket(ctx, filesService, d.m, d.allow)
	if err == nil || d.renew == nil || !errors.Is(err, rdv.ErrBadHandshake) {
		return conn, err
	}
	m, renewErr := d.renew(ctx)
	if renewErr != nil {
		return nil, err
	}
	d.m = m
	return d.c.awaitTicket(ctx, filesService, d.m, d.allow)
}
