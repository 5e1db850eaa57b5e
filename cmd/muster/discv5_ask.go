package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
)

// requestError gives the error of a request its exit code.
func requestError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, discv5.ErrTimeout), timedOut(err):
		return fail(exitTimeout, errors.New("no answer in time"), "the node may be gone, behind a NAT, or at another address than its record says")
	case errors.Is(err, discv5.ErrNoEndpoint):
		return fail(exitUnreachable, err, "a record with an IPv6 address only needs --addr [::]:0")
	case errors.Is(err, discv5.ErrTooLarge), errors.Is(err, discv5.ErrSelf):
		return usageError(err, "")
	default:
		return err
	}
}

// with runs one request to the node that the first argument describes.
func (f *discv5Flags) with(cmd *cobra.Command, e *env, arg string, do func(context.Context, *discv5.Node, *enr.Record) error) (err error) {
	r, err := parseRecord(arg)
	if err != nil {
		return err
	}
	n, err := f.start(e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	return requestError(again(func() error { return do(ctx, n, r) }))
}

// again runs a request a second time if nobody answered the first: a packet
// may be lost, or a busy node may keep silent to strangers for a second.
func again(request func() error) error {
	err := request()
	if errors.Is(err, discv5.ErrTimeout) {
		err = request()
	}
	return err
}

func newDiscv5PingCmd(e *env) *cobra.Command {
	var f discv5Flags
	cmd := &cobra.Command{
		Use:   "ping ENR",
		Short: "Ask a node for a sign of life",
		Args:  exactArgs("ENR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, e, args[0], func(ctx context.Context, n *discv5.Node, r *enr.Record) error {
				start := time.Now()
				pong, err := n.Ping(ctx, r)
				if err != nil {
					return err
				}
				ms := float64(time.Since(start).Microseconds()) / 1000
				if f.asJSON {
					return json.NewEncoder(e.stdout).Encode(map[string]any{
						"id": r.ID(), "seq": pong.Seq, "endpoint": pong.Endpoint, "ms": ms,
					})
				}
				_, err = fmt.Fprintf(e.stdout, "pong from %s seq %d, sees us at %s, %.1f ms with the handshake\n", r.ID(), pong.Seq, pong.Endpoint, ms)
				return err
			})
		},
	}
	f.add(cmd, "0.0.0.0:0")
	f.addTimeout(cmd, 10*time.Second)
	return cmd
}

func newDiscv5FindNodeCmd(e *env) *cobra.Command {
	var f discv5Flags
	cmd := &cobra.Command{
		Use:   "findnode ENR [DISTANCE…]",
		Short: "Ask a node for the nodes it knows at distances 0 to 256 from itself; 0, the default, is its own record",
		Args:  rangeArgs(1, -1, "ENR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			distances, err := parseDistances(args[1:])
			if err != nil {
				return err
			}
			return f.with(cmd, e, args[0], func(ctx context.Context, n *discv5.Node, r *enr.Record) error {
				found, err := n.FindNode(ctx, r, distances...)
				if err != nil {
					return err
				}
				return printRecords(e, found, f.asJSON)
			})
		},
	}
	f.add(cmd, "0.0.0.0:0")
	f.addTimeout(cmd, 10*time.Second)
	return cmd
}

func parseDistances(args []string) ([]int, error) {
	var out []int
	for _, a := range args {
		for s := range strings.SplitSeq(a, ",") {
			d, err := strconv.Atoi(s)
			if err != nil || d < 0 || d > 256 {
				return nil, usageError(fmt.Errorf("distance %q is not a number from 0 to 256", s), "")
			}
			out = append(out, d)
		}
	}
	if out == nil {
		out = []int{0}
	}
	return out, nil
}

// printRecords prints a line each, and fails with exit 3 if there are none.
func printRecords(e *env, records []*enr.Record, asJSON bool) error {
	for _, r := range records {
		if err := printRecord(e, r, asJSON); err != nil {
			return err
		}
	}
	if len(records) == 0 {
		return fail(exitNotFound, errors.New("no nodes found"), "")
	}
	return nil
}

func newDiscv5TalkCmd(e *env) *cobra.Command {
	var f discv5Flags
	cmd := &cobra.Command{
		Use:   "talk ENR PROTOCOL [REQUEST|-]",
		Short: "Send an application's request to a node and print the answer",
		Long: `Send an application's request, of at most 1170 bytes, to a node and print
the answer as it is. A node that does not know the protocol answers with
nothing. With --json request and answer are printed as hexadecimal digits.`,
		Args: rangeArgs(2, 3, "ENR PROTOCOL [REQUEST]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := talkRequest(e, args[2:])
			if err != nil {
				return err
			}
			return f.with(cmd, e, args[0], func(ctx context.Context, n *discv5.Node, r *enr.Record) error {
				answer, err := n.TalkRequest(ctx, r, args[1], request)
				if err != nil {
					return err
				}
				if f.asJSON {
					return json.NewEncoder(e.stdout).Encode(map[string]any{
						"id": r.ID(), "protocol": args[1], "response": fmt.Sprintf("%x", answer),
					})
				}
				_, err = e.stdout.Write(answer)
				return err
			})
		},
	}
	f.add(cmd, "0.0.0.0:0")
	f.addTimeout(cmd, 10*time.Second)
	return cmd
}

// talkLimit is more than fits a packet, so that too much is noticed.
const talkLimit = 1281

func talkRequest(e *env, args []string) ([]byte, error) {
	if len(args) == 0 {
		return nil, nil
	}
	if args[0] != "-" {
		return []byte(args[0]), nil
	}
	return io.ReadAll(io.LimitReader(e.stdin, talkLimit))
}

// split sorts arguments into records, and at most one node ID.
func (f *discv5Flags) split(args []string) (id enr.ID, hasID bool, err error) {
	for _, a := range args {
		if strings.HasPrefix(a, "enr:") {
			f.bootnodes = append(f.bootnodes, a)
			continue
		}
		if hasID {
			return id, hasID, usageError(fmt.Errorf("%q is one node ID too many", a), "")
		}
		if id, err = enr.ParseID(a); err != nil {
			return id, hasID, usageError(err, "give records (enr:…) to begin with and at most one node ID")
		}
		hasID = true
	}
	if len(f.bootnodes) == 0 {
		return id, hasID, usageError(errors.New("no record to begin with"), "give one as an argument or with --bootnode")
	}
	return id, hasID, nil
}

func newDiscv5LookupCmd(e *env) *cobra.Command {
	var f discv5Flags
	cmd := &cobra.Command{
		Use:   "lookup ENR… [ID]",
		Short: "Find the 16 nodes nearest to ID, or to a random one, starting from ENR",
		Args:  rangeArgs(1, -1, "ENR"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			target, ok, err := f.split(args)
			if err != nil {
				return err
			}
			n, err := f.start(e)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, n.Close()) }()
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			var found []*enr.Record
			err = again(func() error {
				n.SeedTable() // again, if the first try has removed them
				if ok {
					found, err = n.Lookup(ctx, target)
				} else {
					found, err = n.LookupRandom(ctx)
				}
				if err == nil && len(found) == 0 {
					err = discv5.ErrTimeout
				}
				return err
			})
			if err != nil && len(found) == 0 {
				return requestError(err)
			}
			return printRecords(e, found, f.asJSON)
		},
	}
	f.add(cmd, "0.0.0.0:0")
	f.addTimeout(cmd, 30*time.Second)
	return cmd
}

func newDiscv5ResolveCmd(e *env) *cobra.Command {
	var f discv5Flags
	cmd := &cobra.Command{
		Use:   "resolve ENR… [ID]",
		Short: "Print the newest record of the node with ID, or of the first ENR",
		Args:  rangeArgs(1, -1, "ENR"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			id, ok, err := f.split(args)
			if err != nil {
				return err
			}
			first, err := parseRecord(f.bootnodes[0])
			if err != nil {
				return err
			}
			if !ok {
				id = first.ID()
			}
			n, err := f.start(e)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, n.Close()) }()
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			return f.resolve(ctx, e, n, id, first)
		},
	}
	f.add(cmd, "0.0.0.0:0")
	f.addTimeout(cmd, 30*time.Second)
	return cmd
}

// resolve asks the node itself if its record was given, and the network if
// that fails or only its ID is known.
func (f *discv5Flags) resolve(ctx context.Context, e *env, n *discv5.Node, id enr.ID, first *enr.Record) error {
	var asked error
	if id == first.ID() {
		var own []*enr.Record
		asked = again(func() (err error) {
			own, err = n.FindNode(ctx, first, 0)
			return err
		})
		if asked == nil && len(own) > 0 {
			return printRecord(e, own[0], f.asJSON)
		}
	}
	r, err := n.Resolve(ctx, id)
	switch {
	case err != nil:
		return requestError(err)
	case r != nil && (asked == nil || r.Seq() > first.Seq()):
		return printRecord(e, r, f.asJSON)
	case asked != nil:
		return requestError(asked)
	default:
		return fail(exitNotFound, fmt.Errorf("node %s was not found", id), "")
	}
}
