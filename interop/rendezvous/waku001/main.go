// Command peer-waku001 is go-waku-rendezvous as a process: a point and a
// client of /vac/waku/rendezvous/0.0.1 on goleveldb, as its README shows it.
// It speaks the lines of interop/rendezvous/internal/peerproc; unregister is
// unknown to that protocol. The module is its own, and its host is put
// together by hand, since go-libp2p of 2022 has a QUIC that today's Go cannot
// build.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	msmux "github.com/libp2p/go-libp2p/p2p/muxer/muxer-multistream"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	csms "github.com/libp2p/go-libp2p/p2p/net/conn-security-multistream"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	rendezvous "github.com/status-im/go-waku-rendezvous"
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/muster-p2p/muster/interop/internal/lines"
)

const opTimeout = 60 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peer-waku001:", err)
		os.Exit(1)
	}
}

func run() error {
	h, err := newHost()
	if err != nil {
		return err
	}
	defer h.Close()
	db, err := leveldb.Open(storage.NewMemStorage(), nil)
	if err != nil {
		return err
	}
	defer db.Close()
	svc := rendezvous.NewRendezvousService(h, rendezvous.NewStorage(levelDB{db}))
	if err := svc.Start(); err != nil {
		return err
	}
	addr := h.Addrs()[0].String() + "/p2p/" + h.ID().String()
	return lines.Serve(os.Stdin, os.Stdout, addr, h.ID().String(), func(words []string) (any, error) { return obey(h, words) })
}

func obey(h host.Host, words []string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	if len(words) < 4 {
		return nil, fmt.Errorf("unknown command %q", strings.Join(words, " "))
	}
	if err := connect(ctx, h, words[1]); err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(words[3])
	if err != nil {
		return nil, err
	}
	point := rendezvous.NewRendezvousPoint(h)
	switch words[0] {
	case "register":
		ttl, err := point.Register(ctx, words[2], n)
		return map[string]any{"event": "registered", "ttl": int64(ttl.Seconds())}, err
	case "discover":
		regs, err := point.Discover(ctx, words[2], n)
		peers := []map[string]any{}
		for _, r := range regs {
			addrs := []string{}
			for _, a := range r.Peer.Addrs {
				addrs = append(addrs, a.String())
			}
			peers = append(peers, map[string]any{"peer": r.Peer.ID.String(), "ns": r.Ns, "ttl": r.Ttl, "addrs": addrs})
		}
		return map[string]any{"event": "discovered", "cookie": "", "peers": peers}, err
	}
	return nil, fmt.Errorf("unknown command %q", strings.Join(words, " "))
}

// connect dials the point and makes it the only one that the library's random
// choice can fall on.
func connect(ctx context.Context, h host.Host, addr string) error {
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return err
	}
	if err := h.Connect(ctx, *info); err != nil {
		return err
	}
	for _, p := range h.Peerstore().Peers() {
		if p == info.ID {
			continue
		}
		if err := h.Peerstore().RemoveProtocols(p, string(rendezvous.RendezvousID_v001)); err != nil {
			return err
		}
	}
	return h.Peerstore().AddProtocols(info.ID, string(rendezvous.RendezvousID_v001))
}

func newHost() (host.Host, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	ps, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(ps.AddPrivKey(id, key), ps.AddPubKey(id, key.GetPublic())); err != nil {
		return nil, err
	}
	sw, err := swarm.NewSwarm(id, ps)
	if err != nil {
		return nil, err
	}
	secure, err := noise.New(key)
	if err != nil {
		return nil, err
	}
	var secures csms.SSMuxer
	secures.AddTransport(noise.ID, secure)
	muxers := msmux.NewBlankTransport()
	muxers.AddTransport("/yamux/1.0.0", yamux.DefaultTransport)
	up, err := upgrader.New(&secures, muxers)
	if err != nil {
		return nil, err
	}
	transport, err := tcp.NewTCPTransport(up, network.NullResourceManager)
	if err != nil {
		return nil, err
	}
	if err := sw.AddTransport(transport); err != nil {
		return nil, err
	}
	if err := sw.Listen(ma.StringCast("/ip4/127.0.0.1/tcp/0")); err != nil {
		return nil, err
	}
	h, err := basichost.NewHost(sw, &basichost.HostOpts{})
	if err != nil {
		return nil, err
	}
	h.Start()
	return h, nil
}

// levelDB is goleveldb as go-waku-rendezvous wants its store.
type levelDB struct{ db *leveldb.DB }

func (l levelDB) Put(k, v []byte) error { return l.db.Put(k, v, nil) }
func (l levelDB) Delete(k []byte) error { return l.db.Delete(k, nil) }
func (l levelDB) NewIterator(prefix []byte) rendezvous.Iterator {
	return l.db.NewIterator(util.BytesPrefix(prefix), nil)
}
