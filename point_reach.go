package muster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/muster-p2p/muster/access"
	"github.com/muster-p2p/muster/reach"
)

// How long a token for a meeting is good for. Those who have met present it
// again when their paths died and they meet anew, so it outlives most links;
// who waits with a ticket waits longer.
const (
	meetingLife = 24 * time.Hour
	ticketLife  = 7 * 24 * time.Hour
)

// startReach opens what passes invitations on.
func (n *Node) startReach(context.Context) error {
	p := n.Point
	if p == nil || p.listener == nil || p.cfg.NoReach {
		return nil
	}
	cfg := reach.Config{
		Servers:    p.meetingPlaces(),
		Authorize:  func(ctx context.Context, r reach.Request) error { _, err := p.mayReach(ctx, r); return err },
		Mint:       p.mint,
		Limits:     p.cfg.Reach,
		Registerer: n.cfg.Registerer, Logger: n.cfg.Logger,
	}
	if p.cfg.Callees != nil {
		cfg.Directory, cfg.DialPoint = p.cfg.Callees, p.cfg.Server.DialAside
	}
	s, err := reach.NewServer(n.inner, cfg)
	if err != nil {
		return err
	}
	p.reach = s
	p.asked.Store(s)
	n.onClose(s.Close)
	return nil
}

// servePoint answers another point of the lobby.
func (p *Point) servePoint(_ context.Context, conn net.Conn) {
	s := p.asked.Load()
	if s == nil { // this one has just begun, or passes no invitations on
		_ = conn.Close()
		return
	}
	s.ServePoint(conn)
}

// meetingPlaces are the URLs of the rdv server as reach knows them: without a
// host where that is the one by which this node was reached.
func (p *Point) meetingPlaces() []string {
	if len(p.cfg.URLs) > 0 {
		return p.cfg.URLs[:min(len(p.cfg.URLs), maxMeetingPlaces)]
	}
	ap := addrPortOf(p.listener.Addr())
	u := url.URL{Scheme: p.scheme(), Host: ap.String(), Path: "/"}
	if ap.Addr().IsUnspecified() {
		_, port, _ := net.SplitHostPort(ap.String()) // is one
		u.Host = ":" + port
	}
	return []string{u.String()}
}

// maxMeetingPlaces is how many servers an invitation names at most.
const maxMeetingPlaces = 4

func (p *Point) scheme() string {
	if p.cfg.TLS != nil {
		return "https"
	}
	return "http"
}

func (p *Point) mayReach(ctx context.Context, r reach.Request) (access.Grant, error) {
	if r.Op == reach.OpInvite && !r.Here {
		// The callee's token would let the caller in: that it is not here is a
		// better answer than that the caller has none. Where it is, as may be
		// at another point, that is asked.
		return access.Grant{}, p.gate.Ask(r.Peer, r.Callee)
	}
	grant, err := p.gate.Reach(ctx, access.ReachRequest{Peer: r.Peer, Token: r.Token, Callee: r.Callee, CalleeToken: r.CalleeToken})
	if errors.Is(err, access.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", reach.ErrUndecided, err)
	}
	return grant, err
}

// mint makes the token of a meeting, for which whoever was let in pays.
func (p *Point) mint(ctx context.Context, r reach.Request) (string, error) {
	grant, err := p.mayReach(ctx, r)
	if err != nil {
		return "", err
	}
	life := meetingLife
	if r.Op == reach.OpReserve {
		life = ticketLife
	}
	return p.gate.Mint(grant, life), nil
}
