// Command point-muster is our point, filled with rows, without limits.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"

	"github.com/muster-p2p/muster/bench/rendezvous/internal/rows"
	"github.com/muster-p2p/muster/rendezvous"
	"github.com/muster-p2p/muster/rendezvous/pebblestore"
)

func main() {
	dir := flag.String("dir", "", "where the store is kept; memory only if empty")
	n := flag.Int("rows", 0, "registrations to start with")
	expireAt := flag.Duration("expire", 0, "let all rows expire within the second that begins so long from now")
	flag.Parse()
	if err := run(*dir, *n, *expireAt); err != nil {
		fmt.Fprintln(os.Stderr, "point-muster:", err)
		os.Exit(1)
	}
}

func run(dir string, n int, expire time.Duration) error {
	var store rendezvous.Store = new(rendezvous.Memory)
	if dir != "" {
		pebble, err := pebblestore.New(pebblestore.Config{Dir: dir, Durability: pebblestore.Group})
		if err != nil {
			return err
		}
		store = pebble
	}
	h, err := rows.NewHost(true)
	if err != nil {
		return err
	}
	defer h.Close()
	before := rows.Heap()
	none := rendezvous.Rate{PerSecond: -1}
	point, err := rendezvous.NewPoint(h, rendezvous.Config{
		Store:      store,
		Limits:     rendezvous.Limits{PerPeer: -1, PerSource: -1, PerNet: -1, PerNamespace: -1, Total: -1, Bytes: -1},
		Rates:      rendezvous.Rates{Peer: none, Source: none, Total: none},
		MinTTL:     time.Second,
		MaxStreams: -1, MaxPeerStreams: -1,
	})
	if err != nil {
		return err
	}
	defer point.Close()
	if err := fill(store, n, expire); err != nil {
		return err
	}
	return rows.Serve(h, rows.Heap()-before)
}

// fill commits the rows a namespace at a time, each with a record of its own.
func fill(store rendezvous.Store, n int, expire time.Duration) error {
	now := time.Now()
	var regs [rows.PerNamespace]rendezvous.Registration
	for i := range regs {
		key, id, err := rows.Peer(i)
		if err != nil {
			return err
		}
		rec := &peer.PeerRecord{PeerID: id, Addrs: rows.Addrs(), Seq: uint64(now.UnixNano())}
		env, err := record.Seal(rec, key)
		if err != nil {
			return err
		}
		b, err := env.Marshal()
		if err != nil {
			return err
		}
		regs[i] = rendezvous.Registration{
			Key:    rendezvous.Key{Realm: rendezvous.RealmLibp2p, Peer: id},
			Record: b, Form: rendezvous.FormSigned, Seq: rec.Seq, TTL: rows.TTL * time.Second,
			Expires: now.Add(rows.TTL * time.Second),
		}
	}
	for ns := range n / rows.PerNamespace {
		changes := make([]rendezvous.Change, len(regs))
		for i := range regs {
			c := &changes[i]
			c.Registration = regs[i]
			c.NS = rows.Namespace(ns)
			// A row that came over the wire has a copy of the record.
			c.Record = append([]byte(nil), c.Record...)
			if expire > 0 {
				c.Expires = now.Add(expire + time.Duration(i)*time.Second/rows.PerNamespace)
				c.TTL = expire + time.Second
			}
		}
		if err := store.Commit(context.Background(), changes); err != nil {
			return err
		}
	}
	return nil
}
