package rendezvous

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// A Query says which page Discover wants.
type Query struct {
	// Limit bounds the records. Zero means as many as the point gives; some
	// take it for no limit at all, some for 1000.
	Limit int

	// Cookie is the last page's; nil begins at the beginning.
	Cookie []byte
}

// A Page is an answer to Discover.
type Page struct {
	// Records are verified and of the namespace asked for.
	Records []Found

	// Cookie is for the next page, which holds what has been registered since
	// if this was the last. It is nil if the point sends none.
	Cookie []byte

	// Restarted says that the point did not know the Query's cookie: this is
	// the first page.
	Restarted bool

	// Dropped counts records that were not usable.
	Dropped int

	// sent counts what came, dropped ones included.
	sent int
}

// Discover asks a point for one page of the peers registered under ns, or
// under any name if ns is empty, which few points allow.
func (c *Client) Discover(ctx context.Context, point peer.ID, ns string, q Query) (Page, error) {
	if ns != "" {
		if err := c.checkNS(ns); err != nil {
			return Page{}, err
		}
	}
	page, err := c.discover(ctx, point, ns, q)
	switch {
	case ns == "" && errors.Is(err, ErrNoAnswer):
		// nim-libp2p before v1.10 reads only an ns that is there.
		page, err = c.discoverWith(ctx, point, &wire.Message{Kind: wire.Discover, HasNS: true}, q)
	case len(q.Cookie) > 0 && hasStatus(err, wire.InvalidCookie):
		q.Cookie = nil
		page, err = c.discover(ctx, point, ns, q)
		page.Restarted = true
	case ns != "" && hasStatus(err, wire.InvalidNamespace):
		// nim-libp2p says so of a name that nobody has.
		return Page{}, nil
	}
	return page, err
}

// Pages asks for one page after the other, from q.Cookie on, and calls f with
// each, until the end, until q.Limit records have come (zero is no limit) or
// until f returns an error. No record comes twice. It returns the cookie to go
// on with, also beside an error.
//
// A page shorter than was asked for is not the end, since points cut pages by
// bytes: the end is one that brings nothing new, or no new cookie. A point that
// never comes to an end is read up to [MaxListing] records and then given up
// with [ErrEndless].
func (c *Client) Pages(ctx context.Context, point peer.ID, ns string, q Query, f func(Page) error) ([]byte, error) {
	seen := seenRecords{}
	total, useless := 0, 0
	for left := q.Limit; ; {
		ask := Query{Cookie: q.Cookie}
		if q.Limit > 0 {
			ask.Limit = min(left, MaxRecords)
		}
		page, err := c.Discover(ctx, point, ns, ask)
		if err != nil {
			return q.Cookie, err
		}
		sent := page.sent
		page.Records = seen.fresh(page.Records)
		if err := f(page); err != nil {
			return q.Cookie, err
		}
		end := len(page.Records)+page.Dropped == 0 || page.Cookie == nil || bytes.Equal(page.Cookie, q.Cookie)
		left -= sent
		if q.Cookie = page.Cookie; end || q.Limit > 0 && left <= 0 {
			return q.Cookie, nil
		}
		if useless++; len(page.Records) > 0 {
			useless = 0
		}
		if total += sent; total >= MaxListing || useless == maxUseless {
			return q.Cookie, ErrEndless
		}
	}
}

func (c *Client) discover(ctx context.Context, point peer.ID, ns string, q Query) (Page, error) {
	return c.discoverWith(ctx, point, &wire.Message{Kind: wire.Discover, NS: ns, HasNS: ns != ""}, q)
}

func (c *Client) discoverWith(ctx context.Context, point peer.ID, req *wire.Message, q Query) (Page, error) {
	most := MaxRecords
	if q.Limit > 0 {
		most = q.Limit
		req.Limit, req.HasLim = uint64(q.Limit), true
	}
	if len(q.Cookie) > 0 {
		req.Cookie = q.Cookie
	}
	var res wire.Message
	if err := c.ask(ctx, point, req, &res, most); err != nil {
		return Page{}, fmt.Errorf("discover: %w", err)
	}
	if res.Kind != wire.DiscoverResponse {
		return Page{}, fmt.Errorf("discover: %w: %v in answer", wire.ErrMalformed, res.Kind)
	}
	if res.Status != wire.OK {
		return Page{}, &StatusError{Status: res.Status, Text: res.Text, Point: point}
	}
	page := Page{sent: len(res.Records)}
	for i := range res.Records {
		f, ok := readFound(&res.Records[i], req.NS, c.cfg.LegacyPeerInfo)
		if !ok {
			page.Dropped++
			continue
		}
		f.Point = point
		page.Records = append(page.Records, f)
	}
	if n := len(res.Cookie); n > 0 && n <= maxCookie {
		page.Cookie = res.Cookie
	}
	c.metrics.listed(&page)
	return page, nil
}
