package reach

import (
	"context"
	crand "crypto/rand"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/reach/wire"
)

// Invite has all points ask remote for a service at once; the first that brings
// a yes wins, and the others are dropped. If none does, the error is the most
// telling one: a [*StatusError], or why the points could not be asked.
func (c *Client) Invite(ctx context.Context, remote peer.ID, service string, points ...peer.AddrInfo) (Invitation, error) {
	if !wire.ValidService(service) {
		return Invitation{}, errors.New("reach: a service is named by at most 64 letters, digits, '-', '.' and '_'")
	}
	m := wire.Message{Kind: wire.Invite, Peer: remote, Service: service, Access: c.cfg.AccessToken}
	_, _ = crand.Read(m.Call[:]) // never fails
	inv, err := c.first(ctx, points, &m)
	inv.Call, inv.Peer, inv.Service = m.Call, remote, service
	return inv, err
}

// Reserve gets a token for a ticket: the point that answers first makes it, and
// its servers are where the ticket's holders meet.
func (c *Client) Reserve(ctx context.Context, points ...peer.AddrInfo) (Invitation, error) {
	return c.first(ctx, points, &wire.Message{Kind: wire.Reserve, Access: c.cfg.AccessToken})
}

// lastWord is how long the points that have not answered yet may change a no
// that is there: one of them may be dead, and one that said no may lie.
const lastWord = time.Second

// first asks all points at once.
func (c *Client) first(ctx context.Context, points []peer.AddrInfo, m *wire.Message) (Invitation, error) {
	if len(points) == 0 {
		return Invitation{}, ErrNoPoints
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel() // drops the others
	type result struct {
		inv Invitation
		err error
	}
	results := make(chan result, len(points))
	for _, p := range points {
		go func() {
			inv, err := c.ask(ctx, p, m)
			if err != nil {
				c.cfg.Logger.Debug("request failed", "point", p.ID, "err", err)
			}
			results <- result{inv, err}
		}()
	}
	var worst error
	var patience <-chan time.Time
	for range points {
		select {
		case r := <-results:
			if r.err == nil {
				return r.inv, nil
			}
			if worst == nil || telling(r.err) > telling(worst) {
				worst = r.err
			}
			if telling(worst) >= tellsNo && patience == nil {
				patience = time.After(lastWord)
			}
		case <-patience:
			return Invitation{}, worst
		}
	}
	return Invitation{}, worst
}

// tellsNo is how telling an error is that comes from the callee or is about it.
const tellsNo = 3

// telling ranks errors by how much they tell the caller.
func telling(err error) int {
	e, ok := errors.AsType[*StatusError](err)
	if !ok {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return 0
		}
		return 1
	}
	switch e.Status {
	case wire.Refused, wire.NoService:
		return 6
	case wire.Busy, wire.NoAnswer:
		return 5
	case wire.Unauthorized:
		return 4
	case wire.NotHere:
		return tellsNo
	default:
		return 2
	}
}
