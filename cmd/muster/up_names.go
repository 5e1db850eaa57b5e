package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/rendezvous"
)

// nameFlags say under what names a verb registers.
type nameFlags struct {
	ns   []string
	name string
}

func (f *nameFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.ns, "ns", nil, "register in the namespace `NS`; may be repeated")
	cmd.Flags().StringVar(&f.name, "name", "", "be called NS/`NAME` in each namespace")
}

// names returns the rendezvous namespaces to register under: NS, so that those
// who list it see this peer, and NS/NAME.
func (f *nameFlags) names() (list []string, err error) {
	if f.name != "" && len(f.ns) == 0 {
		return nil, usageError(errors.New("--name needs --ns"), "a peer has its name in a namespace: --ns lab --name nas")
	}
	for _, ns := range f.ns {
		probe := muster.Name{Namespace: ns, Peer: f.name}
		if f.name == "" {
			probe.Peer = "x"
		}
		if err := probe.Validate(); err != nil {
			return nil, usageError(err, "")
		}
		if f.name == "" {
			list = append(list, ns)
		} else {
			list = append(list, probe.Registrations()...)
		}
	}
	return list, nil
}

// leaveWait bounds the wait for points to take a name back.
const leaveWait = 2 * time.Second

// register keeps the names registered until stop is called, which takes them
// back. That a point is away for now is told, and no error.
func (c *caller) register(ctx context.Context, ev events, names []string) (stop func(), err error) {
	if len(names) == 0 {
		return func() {}, nil
	}
	d := rendezvous.NewDiscovery(c.host, rendezvous.DiscoveryConfig{Points: c.opts.Points})
	for _, ns := range names {
		ttl, err := d.Advertise(ctx, ns)
		if errors.Is(err, rendezvous.ErrInvalidNamespace) {
			return nil, errors.Join(usageError(err, ""), d.Close())
		}
		object := map[string]any{"event": "registered", "ns": ns}
		line := fmt.Sprintf("registered as %s", printable(ns))
		if err != nil {
			object["event"], object["error"], object["retry_ms"] = "unregistered", err.Error(), millis(ttl)
			line = fmt.Sprintf("not registered as %s: %v; next attempt in %s", printable(ns), err, ttl.Round(time.Second))
		}
		ev.say(line, object)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWait)
		defer cancel()
		for _, ns := range names {
			_ = d.Unsubscribe(ctx, ns) // it runs out else
		}
		_ = d.Close()
	}, nil
}
