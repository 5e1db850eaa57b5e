package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/rendezvous"
)

const findLong = `List the peers that are registered under a namespace, or under a name NS/NAME, at the
points: one line for each with its peer ID, addresses, seconds that are left, and the
namespace. With --watch, go on with who joins, changes and leaves.`

// findVerb is the flags of 'muster find'.
type findVerb struct {
	pointFlags
	watch   bool
	limit   int
	timeout time.Duration
}

func newFindCmd(e *env) *cobra.Command {
	var f findVerb
	cmd := &cobra.Command{
		Use:   "find NS",
		Short: "List the peers in a namespace",
		Long:  findLong,
		Args:  exactArgs("NS"),
		RunE:  func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), e, args[0]) },
	}
	f.addPoint(cmd)
	cmd.Flags().BoolVar(&f.watch, "watch", false, "go on with what changes, until interrupted")
	cmd.Flags().IntVar(&f.limit, "limit", 0, "list `N` peers at most (default: all)")
	cmd.Flags().DurationVar(&f.timeout, "timeout", rendezvous.DefaultTimeout, "give up on a point after `DUR`")
	return cmd
}

func (f *findVerb) run(ctx context.Context, e *env, ns string) (err error) {
	if f.limit < 0 {
		return usageError(errors.New("--limit is negative"), "")
	}
	o, err := f.options()
	if err == nil {
		err = o.needPoint()
	}
	if err != nil {
		return err
	}
	h, err := newRendezvousHost(o.Key, false)
	if err != nil {
		return err
	}
	defer closing(h, &err)
	d := rendezvous.NewDiscovery(h, rendezvous.DiscoveryConfig{
		Client: rendezvous.ClientConfig{Timeout: f.timeout}, Points: o.Points,
	})
	defer closing(d, &err)
	printer := rendezvousFlags{json: f.json}
	if f.watch {
		return watchNames(ctx, e, &printer, d, ns, f.limit)
	}
	found, err := d.Request(ctx, ns, f.limit)
	if err != nil {
		return linkFailure(err)
	}
	if len(found) == 0 {
		return fail(exitNotFound, fmt.Errorf("nobody is registered under %q", ns), "is 'muster up' running there, with the same point?")
	}
	for _, p := range found {
		if err := printer.printFound(e, p, ""); err != nil {
			return err
		}
	}
	return nil
}

// watchNames prints what happens under a name until ctx ends, or for as many
// peers as limit says.
func watchNames(ctx context.Context, e *env, printer *rendezvousFlags, d *rendezvous.Discovery, ns string, limit int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := d.Watch(ctx, ns)
	if err != nil {
		return linkFailure(err)
	}
	seen := map[peer.ID]bool{}
	for c := range changes {
		if !seen[c.ID] && limit > 0 && len(seen) >= limit {
			continue
		}
		seen[c.ID] = c.Kind != rendezvous.Left
		if c.Kind == rendezvous.Left {
			delete(seen, c.ID)
		}
		if err := printer.printFound(e, c.Found, c.Kind.String()); err != nil {
			return err
		}
	}
	return nil
}
