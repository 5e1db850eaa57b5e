package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pebblestore"
	"github.com/muster-p2p/muster/rendezvous/pgstore"
)

// rendezvousServe is the flags of 'muster rendezvous serve'.
type rendezvousServe struct {
	listen      []string
	store       string
	durability  string
	key         string
	waku        bool
	legacy      bool
	discoverAll bool
	minTTL      time.Duration
	perPeer     int
}

func newRendezvousServeCmd(e *env) *cobra.Command {
	var s rendezvousServe
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a rendezvous point and print its address",
		Long: "Run a rendezvous point until interrupted. The first line on stdout is its\n" +
			"address, as others give it to --point; each further address follows on its own.\n\n" +
			"A database's password need not be in --store: PGPASSWORD and PGPASSFILE are read.",
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context(), e) },
	}
	cmd.Flags().StringArrayVar(&s.listen, "listen", []string{"/ip4/0.0.0.0/tcp/0"}, "`MULTIADDR` to listen on")
	cmd.Flags().StringVar(&s.store, "store", "memory", "where registrations are kept: memory, pebble:DIR or postgres://…")
	cmd.Flags().StringVar(&s.durability, "durability", "group", "what OK promises with pebble: sync, group or none")
	cmd.Flags().StringVar(&s.key, "key", "", "identity `FILE`, made if missing (default: an identity for this run)")
	cmd.Flags().BoolVar(&s.waku, "waku", false, "serve "+string(rendezvous.WakuProtocolID)+" as well")
	cmd.Flags().BoolVar(&s.legacy, "legacy", false, "let peers of before 2020 register unsigned")
	cmd.Flags().BoolVar(&s.discoverAll, "discover-all", false, "let peers list all namespaces")
	cmd.Flags().DurationVar(&s.minTTL, "min-ttl", rendezvous.DefaultMinTTL, "least lifetime that is granted")
	cmd.Flags().IntVar(&s.perPeer, "max-per-peer", rendezvous.DefaultPerPeer, "registrations of one peer, at most")
	return cmd
}

func (s *rendezvousServe) run(ctx context.Context, e *env) (err error) {
	listen, err := parseMultiaddrs("--listen", s.listen)
	if err != nil {
		return err
	}
	if s.minTTL < time.Second || s.minTTL%time.Second != 0 || s.minTTL > rendezvous.MaxTTL {
		return usageError(fmt.Errorf("--min-ttl %v is not between 1s and 72h in whole seconds", s.minTTL), "")
	}
	logger := slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := openStoreFlag(s.store, s.durability, logger)
	if err != nil {
		return err
	}
	key, err := hostKey(s.key)
	if err != nil {
		return err
	}
	h, err := muster.NewHost(muster.HostConfig{Key: key, Listen: listen})
	if err != nil {
		return fail(exitLocal, err, "")
	}
	defer closing(h, &err)
	point, err := rendezvous.NewPoint(h, rendezvous.Config{
		Store: store, Waku: s.waku, LegacyPeerInfo: s.legacy, DiscoverAll: s.discoverAll, MinTTL: s.minTTL,
		Limits: rendezvous.Limits{PerPeer: s.perPeer}, Logger: logger,
	})
	if err != nil {
		return fail(exitLocal, err, "")
	}
	defer closing(point, &err)
	addrs, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if _, err := fmt.Fprintln(e.stdout, a); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// openStoreFlag reads the value of --store.
func openStoreFlag(value, durability string, logger *slog.Logger) (rendezvous.Store, error) {
	d, err := pebblestore.ParseDurability(durability)
	if err != nil {
		return nil, usageError(fmt.Errorf("--durability: %w", err), "")
	}
	dir, isPebble := strings.CutPrefix(value, "pebble:")
	var store rendezvous.Store
	switch {
	case value == "memory":
		return rendezvous.NewMemory(), nil
	case isPebble && dir != "":
		store, err = pebblestore.New(pebblestore.Config{Dir: dir, Durability: d, Logger: logger})
	case strings.HasPrefix(value, "postgres://"), strings.HasPrefix(value, "postgresql://"):
		store, err = pgstore.New(pgstore.Config{URL: value, Logger: logger})
	default:
		return nil, usageError(fmt.Errorf("--store %q is not known", value), "want memory, pebble:DIR or postgres://…")
	}
	if err != nil {
		return nil, fail(exitLocal, err, "")
	}
	return store, nil
}
