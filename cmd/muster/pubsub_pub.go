package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/pubsub"
)

func newPubCmd(e *env) *cobra.Command {
	var f pubsubFlags
	var raw, asJSON bool
	var wait time.Duration
	var minPeers int
	cmd := &cobra.Command{
		Use:   "pub TOPIC [MESSAGE|-]",
		Short: "Publish to a topic: an argument, or each line of stdin",
		Long: `Publish MESSAGE, or each line of stdin, to a topic. It waits until a peer
is in the topic, and ends when everything has been sent to at least one; with
--min-peers it waits for more.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return usageError(fmt.Errorf("muster pub takes TOPIC [MESSAGE|-], got %d arguments", len(args)), "see 'muster pub --help'")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			next, err := pubSource(e.stdin, args[1:], raw, f.maxSize)
			if err != nil {
				return err
			}
			if minPeers < 1 {
				return usageError(fmt.Errorf("--min-peers is %d", minPeers), "1 or more")
			}
			if len(f.peers)+len(f.points)+len(f.find.bootnodes)+len(f.listen) == 0 {
				return usageError(errors.New("nobody to publish to"), "name a peer with --peer, find one with --point or --bootnode, or wait for one with --listen")
			}
			return runPub(cmd.Context(), e, &f, args[0], audience{minPeers, wait}, asJSON, next)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&raw, "raw", false, "publish all of stdin as one message")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object per message: its id and how many peers it was sent to")
	cmd.Flags().DurationVar(&wait, "wait", 10*time.Second, "how long to wait for peers in the topic")
	cmd.Flags().IntVar(&minPeers, "min-peers", 1, "how many peers there have to be in the topic")
	return cmd
}

// pubSource returns what yields the messages one by one, and io.EOF at the end.
func pubSource(stdin io.Reader, args []string, raw bool, limit int) (func() ([]byte, error), error) {
	if len(args) == 1 && args[0] != "-" {
		if raw {
			return nil, usageError(errors.New("--raw reads stdin; MESSAGE was given too"), "")
		}
		return once([]byte(args[0])), nil
	}
	if raw {
		return func() ([]byte, error) {
			b, err := io.ReadAll(io.LimitReader(stdin, int64(limit)+1))
			if err == nil && len(b) == 0 {
				err = io.EOF
			}
			return b, err
		}, nil
	}
	sc := bufio.NewScanner(stdin)
	sc.Buffer(nil, limit+1)
	return func() ([]byte, error) {
		if !sc.Scan() {
			return nil, cmp.Or(sc.Err(), io.EOF)
		}
		return append([]byte(nil), sc.Bytes()...), nil
	}, nil
}

func once(b []byte) func() ([]byte, error) {
	done := false
	return func() ([]byte, error) {
		if done {
			return nil, io.EOF
		}
		done = true
		return b, nil
	}
}

func runPub(ctx context.Context, e *env, f *pubsubFlags, topic string, audience audience, asJSON bool, next func() ([]byte, error)) (err error) {
	s, err := f.open(e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	t, err := s.ps.Join(topic)
	if err != nil {
		return usageError(err, "")
	}
	for _, a := range s.host.Addrs() {
		fmt.Fprintf(e.stderr, "%s/p2p/%s\n", a, s.host.ID())
	}
	if err := s.dial(ctx); err != nil {
		return err
	}
	fctx, cancel := context.WithCancel(ctx)
	found, err := s.meet(fctx, &f.find)
	if err != nil {
		cancel()
		return err
	}
	defer func() {
		cancel()
		err = errors.Join(err, found())
	}()
	if err := audience.await(ctx, t); err != nil {
		return err
	}
	for {
		b, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, bufio.ErrTooLong) {
			return usageError(fmt.Errorf("line %d is longer than a message may be", s.published+1), "raise --max-size here and at the peers, or publish all of stdin with --raw")
		}
		if err != nil {
			return fail(exitLocal, fmt.Errorf("read stdin: %w", err), "")
		}
		if err := publishOne(ctx, e, t, b, asJSON); err != nil {
			return err
		}
		s.published++
	}
}

// An audience is who has to be in the topic before anything is published.
type audience struct {
	peers int
	wait  time.Duration // for how long at most
}

func (a audience) await(ctx context.Context, t *pubsub.Topic) error {
	wctx, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	err := t.AwaitPeers(wctx, a.peers)
	if err != nil && ctx.Err() == nil && timedOut(err) {
		who := "nobody is"
		if n := len(t.ListPeers()); n > 0 {
			who = fmt.Sprintf("%d of %d peers are", n, a.peers)
		}
		return fail(exitTimeout, fmt.Errorf("%s in topic %q after %v", who, t, a.wait), "wait longer with --wait")
	}
	return err
}

func publishOne(ctx context.Context, e *env, t *pubsub.Topic, b []byte, asJSON bool) error {
	res, err := t.PublishResult(ctx, b, pubsub.WithRequirePeers())
	switch {
	case errors.Is(err, pubsub.ErrDuplicateMessage):
		// With --sign none the same line twice is the same message.
		fmt.Fprintln(e.stderr, "muster: the same message was published before; it is not sent again")
		return nil
	case errors.Is(err, pubsub.ErrMessageTooLarge):
		return usageError(err, "raise --max-size here and at the peers")
	case errors.Is(err, pubsub.ErrNoPeers):
		return fail(exitNotFound, err, "")
	case err != nil:
		return err
	case asJSON:
		return json.NewEncoder(e.stdout).Encode(map[string]any{"id": fmt.Sprintf("%x", res.ID), "recipients": res.Recipients})
	}
	return nil
}
