package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/pubsub"
)

// defaultListen is where 'sub' listens unless it is told: on this machine
// only, since it is others who would use it.
const defaultListen = "/ip4/127.0.0.1/tcp/0"

func newSubCmd(e *env) *cobra.Command {
	var f pubsubFlags
	var asJSON, raw bool
	var count int
	cmd := &cobra.Command{
		Use:   "sub TOPIC...",
		Short: "Print the messages of topics",
		Long: `Print the messages of topics, one per line, until it is interrupted.

The first line on stderr is the multiaddr that others reach this peer at.
It listens on this machine only, unless --listen says otherwise.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(errors.New("muster sub takes TOPIC..., got none"), "see 'muster sub --help'")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, topics []string) error {
			if asJSON && raw {
				return usageError(errors.New("--json and --raw exclude each other"), "")
			}
			if len(f.listen) == 0 {
				f.listen = []string{defaultListen}
			}
			return runSub(cmd.Context(), e, &f, topics, count, func(m *pubsub.Message) error {
				return printMessage(e.stdout, m, asJSON, raw)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object per message")
	cmd.Flags().BoolVar(&raw, "raw", false, "print payloads as they are, with nothing between them")
	cmd.Flags().IntVarP(&count, "count", "n", 0, "end after so many messages (default: never)")
	return cmd
}

func runSub(ctx context.Context, e *env, f *pubsubFlags, topics []string, count int, show func(*pubsub.Message) error) (err error) {
	s, err := f.open(e)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait()
		err = errors.Join(err, s.close(ctx))
	}()
	subs := make([]*pubsub.Subscription, 0, len(topics))
	for _, topic := range topics {
		t, err := s.ps.Join(topic)
		if err != nil {
			return usageError(err, "name each topic once")
		}
		// A reader of stdout that is slow holds up the peers, not us.
		sub, err := t.Subscribe(pubsub.WithOverflow(pubsub.Block))
		if err != nil {
			return err
		}
		subs = append(subs, sub)
	}
	for _, a := range s.host.Addrs() {
		fmt.Fprintf(e.stderr, "%s/p2p/%s\n", a, s.host.ID())
	}
	for _, pi := range s.peers {
		wg.Go(func() { s.stay(ctx, pi) })
	}
	found, err := s.meet(ctx, &f.find)
	if err != nil {
		return err
	}
	defer func() {
		cancel()
		err = errors.Join(err, found())
	}()
	msgs := make(chan *pubsub.Message)
	for _, sub := range subs {
		wg.Go(func() {
			for m, err := range sub.Messages(ctx) {
				if err != nil {
					return
				}
				select {
				case msgs <- m:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	for n := 0; count == 0 || n < count; n++ {
		select {
		case m := <-msgs:
			if err := show(m); err != nil {
				return fail(exitLocal, fmt.Errorf("write: %w", err), "")
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
