package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/admin"
)

func newPeersCmd(e *env) *cobra.Command {
	var f adminFlags
	var limit int
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "Print who is connected to the daemon on this machine",
		Long: "Peers asks the admin listener of a running daemon, such as 'muster serve', and prints a line per connected peer:\n" +
			"its ID, its address as seen there, in or out, since when, and what it calls itself, separated by tabs.",
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return usageError(errors.New("--limit is negative"), "")
			}
			return f.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				peers, err := c.Peers(ctx, limit)
				if err != nil {
					return err
				}
				if len(peers) == 0 {
					return fail(exitNotFound, errors.New("no peer is connected"), "")
				}
				return printPeers(e, peers, f.json)
			})
		},
	}
	f.add(cmd)
	f.addJSON(cmd)
	cmd.Flags().IntVar(&limit, "limit", 0, "at most `N` peers (default all)")
	return cmd
}

func printPeers(e *env, peers []admin.Peer, asJSON bool) error {
	enc := json.NewEncoder(e.stdout)
	for _, p := range peers {
		var err error
		if asJSON {
			err = enc.Encode(p)
		} else {
			_, err = fmt.Fprintf(e.stdout, "%s\t%s\t%s\t%s\t%s\n", p.Peer, cmp.Or(p.Addr, "-"), direction(p.Inbound),
				p.Since.UTC().Format(time.RFC3339), cmp.Or(printable(p.Agent), "-"))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func direction(inbound bool) string {
	if inbound {
		return "in"
	}
	return "out"
}
