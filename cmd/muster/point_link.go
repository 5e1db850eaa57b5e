package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/link"
	"github.com/muster-p2p/muster/rdv"
	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/reach/wire"
	"github.com/muster-p2p/muster/rendezvous"
)

// A caller is what a verb that makes links has open.
type caller struct {
	*muster.Reach
	opts pointOptions
	id   peer.ID
	host host.Host // nil if no point is given: then none is needed
}

// openCaller opens what the options ask for. With listen, the host has addresses
// that can be registered.
func openCaller(o pointOptions, listen bool, changed func(reach.Event)) (*caller, error) {
	id, err := peer.IDFromPrivateKey(o.Key)
	if err != nil {
		return nil, err
	}
	c := &caller{opts: o, id: id}
	if len(o.Points) > 0 {
		cfg := muster.HostConfig{Key: o.Key}
		if listen {
			cfg.Listen = []ma.Multiaddr{ma.StringCast("/ip4/0.0.0.0/tcp/0")}
		}
		if c.host, err = muster.NewHost(cfg); err != nil {
			return nil, fail(exitLocal, err, "")
		}
	}
	c.Reach, err = muster.NewReach(c.host, o.Key, muster.ReachConfig{
		Points: o.Points, AccessToken: o.Token, Changed: changed,
		Link: link.Config{Paths: o.linkPaths(), TLS: o.TLS, Proxy: http.ProxyFromEnvironment},
	})
	if err != nil {
		return nil, errors.Join(usageError(err, ""), c.closeHost())
	}
	return c, nil
}

func (o *pointOptions) linkPaths() link.Paths {
	switch o.Path {
	case pathDirect:
		return link.DirectOnly
	case pathRelay:
		return link.RelayOnly
	default:
		return link.Auto
	}
}

// Close closes all of it.
func (c *caller) Close() error { return errors.Join(c.Reach.Close(), c.closeHost()) }

func (c *caller) closeHost() error {
	if c.host == nil {
		return nil
	}
	return c.host.Close()
}

// dial connects to a peer, for one of its services.
func (c *caller) dial(ctx context.Context, w who, service string) (*link.Conn, error) {
	if w.ticket != nil {
		m := link.Meeting{Servers: w.ticket.Servers, Token: w.ticket.Token, Header: c.bearer(w.ticket.Token)}
		conn, err := c.DialAt(ctx, w.ticket.Peer, service, m)
		return conn, linkFailure(err)
	}
	if err := c.opts.needPoint(); err != nil {
		return nil, err
	}
	id, err := c.resolve(ctx, w)
	if err != nil {
		return nil, err
	}
	conn, err := c.Dial(ctx, id, service)
	return conn, linkFailure(err)
}

// resolve returns whom a WHO means.
func (c *caller) resolve(ctx context.Context, w who) (peer.ID, error) {
	switch {
	case w.ticket != nil:
		return w.ticket.Peer, nil
	case w.id != "":
		return w.id, nil
	}
	id, err := c.Resolve(ctx, w.name)
	return id, linkFailure(err)
}

// bearer returns what to present at rdv servers: the access token if there is
// one, else the meeting's own, which the servers of points take.
func (c *caller) bearer(token string) http.Header {
	if c.opts.Token != "" {
		token = c.opts.Token
	}
	return http.Header{"Authorization": {"Bearer " + token}}
}

// A pinned keeps what a name means, for verbs that call a peer again and again.
type pinned struct {
	mu sync.Mutex // guards id
	id peer.ID
}

// pin returns w by the ID that it had first: a name that means somebody else
// later does not lead there.
func (p *pinned) pin(ctx context.Context, c *caller, w who) (who, error) {
	if w.ticket != nil || w.id != "" {
		return w, nil
	}
	p.mu.Lock()
	id := p.id
	p.mu.Unlock()
	if id == "" {
		var err error
		if id, err = c.resolve(ctx, w); err != nil {
			return w, err
		}
		p.mu.Lock()
		p.id = id
		p.mu.Unlock()
	}
	return who{text: w.text, id: id}, nil
}

// linkFailure gives an error of finding, inviting or connecting its exit code.
func linkFailure(err error) error {
	if err == nil {
		return nil
	}
	if wrong, ok := errors.AsType[sec.ErrPeerIDMismatch](err); ok && !errors.Is(err, link.ErrIdentity) {
		return fail(exitIdentity, fmt.Errorf("the point is %s, not %s", wrong.Actual, wrong.Expected), "check the end of --point")
	}
	if said, ok := errors.AsType[*reach.StatusError](err); ok {
		return statusFailure(said)
	}
	if _, ok := errors.AsType[*rendezvous.StatusError](err); ok {
		return rendezvousFailure(err)
	}
	switch {
	case errors.Is(err, link.ErrIdentity):
		return fail(exitIdentity, err, "somebody else answered; nothing was sent to them")
	case errors.Is(err, link.ErrRefused):
		return fail(exitRefused, err, "")
	case errors.Is(err, muster.ErrNotFound):
		return fail(exitNotFound, err, "is 'muster up' running there, with the same point?")
	case errors.Is(err, muster.ErrAmbiguous):
		return fail(exitNotFound, err, "say which one by its peer ID")
	case errors.Is(err, reach.ErrUnsupported), errors.Is(err, rendezvous.ErrUnsupported):
		return fail(exitVersion, err, "is a point at that address?")
	case timedOut(err):
		return fail(exitTimeout, err, "")
	case errors.Is(err, reach.ErrUnreachable), errors.Is(err, reach.ErrNoAnswer), errors.Is(err, rendezvous.ErrUnreachable):
		return fail(exitUnreachable, err, "check --point, and that the point runs")
	case errors.Is(err, rdv.ErrBadHandshake):
		return fail(exitRefused, err, "the server does not let us in, or is no rdv server")
	case isNetworkError(err):
		return fail(exitUnreachable, err, "check the server's URL, and that it runs")
	default:
		return err
	}
}

// statusFailure gives what a point or the callee said an exit code.
func statusFailure(e *reach.StatusError) error {
	text := ""
	if e.Text != "" {
		text = fmt.Sprintf(" (%q)", e.Text)
	}
	switch e.Status {
	case wire.NotHere:
		return fail(exitNotFound, errors.New("the peer is not reachable at the point"), "is 'muster up' or 'muster listen' running there, with the same point?")
	case wire.NoService:
		return fail(exitNotFound, errors.New("the peer has no such service"), "it names its services with 'muster up --expose NAME=HOST:PORT'")
	case wire.Refused:
		return fail(exitRefused, errors.New("the peer refuses our calls"+text), "its access list has to name us: 'muster key show FILE' prints our peer ID")
	case wire.Unauthorized:
		return fail(exitRefused, errors.New("the point does not let us"+text), "give an access token with "+envToken+" or --token-file; without one, a peer that is there may still be called")
	case wire.Busy:
		return fail(exitRefused, errors.New("the point or the peer is busy"), "try again later")
	case wire.NoAnswer:
		return fail(exitTimeout, errors.New("the peer does not answer"), "")
	case wire.Unavailable:
		if e.Text != "" { // of a point that asks others, or cannot decide
			return fail(exitUnreachable, errors.New("the point does not help us now"+text), "try again in a moment")
		}
		return fail(exitUnreachable, errors.New("the point is stopping"), "try again in a moment")
	default:
		return fail(exitOther, e, "")
	}
}

// A halfCloser is a connection whose sending direction can be ended alone.
type halfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// shortID is enough of a peer ID to tell a few apart by eye.
func shortID(id peer.ID) string {
	s := id.String()
	const tail = 8
	if len(s) <= tail {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-tail:], "")
}
