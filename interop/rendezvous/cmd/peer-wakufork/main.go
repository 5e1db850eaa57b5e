// Command peer-wakufork is the Waku fork of go-libp2p-rendezvous as a process: a point and a
// client. See package peerproc for its lines.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/libp2p/go-libp2p/core/host"
	rendezvous "github.com/waku-org/go-libp2p-rendezvous"
	sqlite "github.com/waku-org/go-libp2p-rendezvous/db/sqlite"

	"github.com/muster-p2p/muster/interop/rendezvous/internal/gohost"
	"github.com/muster-p2p/muster/interop/rendezvous/internal/peerproc"
)

type client struct{ h host.Host }

func (c client) point(ctx context.Context, addr string) (rendezvous.RendezvousPoint, error) {
	id, err := gohost.Connect(ctx, c.h, addr)
	if err != nil {
		return nil, err
	}
	return rendezvous.NewRendezvousPoint(c.h, id), nil
}

func (c client) Register(ctx context.Context, point, ns string, ttl int) (int64, error) {
	p, err := c.point(ctx, point)
	if err != nil {
		return 0, err
	}
	granted, err := p.Register(ctx, ns, ttl)
	return int64(granted.Seconds()), err
}

func (c client) Discover(ctx context.Context, point, ns string, limit int, cookie []byte) ([]peerproc.Record, []byte, error) {
	p, err := c.point(ctx, point)
	if err != nil {
		return nil, nil, err
	}
	regs, next, err := p.Discover(ctx, ns, limit, cookie)
	records := make([]peerproc.Record, 0, len(regs))
	for _, r := range regs {
		rec := peerproc.Record{Peer: r.Peer.ID.String(), NS: r.Ns, TTL: int64(r.Ttl)}
		for _, a := range r.Peer.Addrs {
			rec.Addrs = append(rec.Addrs, a.String())
		}
		records = append(records, rec)
	}
	return records, next, err
}

func (c client) Unregister(ctx context.Context, point, ns string) error {
	p, err := c.point(ctx, point)
	if err != nil {
		return err
	}
	return p.Unregister(ctx, ns)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peer-wakufork:", err)
		os.Exit(1)
	}
}

func run() error {
	h, err := gohost.New()
	if err != nil {
		return err
	}
	defer h.Close()
	db, err := sqlite.OpenDB(context.Background(), ":memory:")
	if err != nil {
		return err
	}
	defer db.Close()
	rendezvous.NewRendezvousService(h, db)
	return peerproc.Run(gohost.Addr(h), h.ID().String(), client{h})
}
