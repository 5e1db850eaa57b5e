package storetest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/rendezvous"
)

// PeerID returns the nth peer: an Ed25519 identity multihash as they are on
// the wire, with a NUL at its start and one in its middle.
func PeerID(n int) peer.ID {
	var b [38]byte
	copy(b[:], "\x00\x24\x08\x01\x12\x20")
	binary.BigEndian.PutUint64(b[30:], uint64(n))
	return peer.ID(b[:])
}

// Registration returns a libp2p registration of the nth peer with a record of
// 200 bytes that tells seq, expiring ttl from now.
func Registration(ns string, n int, seq uint64, ttl time.Duration) rendezvous.Change {
	record := binary.BigEndian.AppendUint64(bytes.Repeat([]byte{byte(n)}, 192), seq)
	return rendezvous.Change{Registration: rendezvous.Registration{
		Key:     rendezvous.Key{Realm: rendezvous.RealmLibp2p, NS: ns, Peer: PeerID(n)},
		Record:  record,
		Form:    rendezvous.FormSigned,
		Seq:     seq,
		TTL:     ttl,
		Expires: time.Now().Add(ttl),
		Source:  netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}),
	}}
}

// Removal returns the removal of what has key k.
func Removal(k rendezvous.Key) rendezvous.Change {
	return rendezvous.Change{Registration: rendezvous.Registration{Key: k}, Removed: true}
}

// odd returns registrations that a careless encoding would confuse or cut.
func odd() []rendezvous.Change {
	plain := Registration("ns", 1, 1, time.Hour)
	vary := func(f func(*rendezvous.Change)) rendezvous.Change {
		c := plain
		f(&c)
		return c
	}
	return []rendezvous.Change{
		plain,
		vary(func(c *rendezvous.Change) { c.Realm = rendezvous.RealmWaku }),
		vary(func(c *rendezvous.Change) { c.NS = "n" }),
		vary(func(c *rendezvous.Change) { c.NS = "ns\x00" }),
		vary(func(c *rendezvous.Change) { c.NS = "\x00" }),
		vary(func(c *rendezvous.Change) { c.NS = "NS" }),
		vary(func(c *rendezvous.Change) { c.NS = "n's\"\\%_" }),
		vary(func(c *rendezvous.Change) { c.NS = strings.Repeat("ж", 128) }),
		vary(func(c *rendezvous.Change) { c.NS = "ns" + string(c.Peer[:1]) }),
		vary(func(c *rendezvous.Change) { c.Peer = "\xff" + c.Peer }),
		vary(func(c *rendezvous.Change) { c.Peer = c.Peer[:34] }),
		vary(func(c *rendezvous.Change) { c.NS, c.Seq = "seq", 1<<64-1 }),
		vary(func(c *rendezvous.Change) { c.NS, c.Seq = "seq63", 1<<63 }),
		vary(func(c *rendezvous.Change) { c.NS, c.Seq = "seq0", 0 }),
		vary(func(c *rendezvous.Change) { c.NS, c.Form = "form", rendezvous.FormPeerInfo }),
		vary(func(c *rendezvous.Change) { c.NS, c.Source = "nowhere", netip.Addr{} }),
		vary(func(c *rendezvous.Change) { c.NS, c.Source = "v6", netip.MustParseAddr("2001:db8:1:2::") }),
		vary(func(c *rendezvous.Change) { c.NS, c.Record = "big", bytes.Repeat([]byte("\x00\xffrecord"), 8192) }),
		vary(func(c *rendezvous.Change) { c.NS, c.Record = "zeros", make([]byte, 200) }),
		vary(func(c *rendezvous.Change) {
			c.NS, c.TTL, c.Expires = "long", 72*time.Hour, time.Now().Add(72*time.Hour)
		}),
	}
}

func compareKeys(a, b rendezvous.Key) int {
	return cmp.Or(cmp.Compare(a.Realm, b.Realm), cmp.Compare(a.NS, b.NS), cmp.Compare(a.Peer, b.Peer))
}
