package pebblestore

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/rendezvous"
)

// The keys. A row's key holds the registration's Key, so that a refresh
// replaces the row before it without reading it:
//
//	'm'                                          → the store's identity
//	'c'                                          → where the history and the clock stand
//	'r' realm:1 len(ns):2 ns peer                → a registration
//
// and its value the rest:
//
//	version:1 pos:8 expires:8 seq:8 ttl:varint form:1 len(source):1 source record
//
// Numbers are big endian. expires is in milliseconds of the store's clock, see
// [clock]; ttl is in milliseconds.
var (
	identityKey = []byte{'m'}
	cursorKey   = []byte{'c'}
	rowsFrom    = []byte{'r'}
	rowsTo      = []byte{'r' + 1}
)

// layout is the version of all values. A store of a higher version was written
// by a later muster and is left alone.
const layout = 1

// errRow says that a key or a value is not one that was written here.
var errRow = errors.New("pebblestore: row is not readable")

func appendRowKey(b []byte, k rendezvous.Key) []byte {
	b = append(b, 'r', byte(k.Realm))
	b = binary.BigEndian.AppendUint16(b, uint16(len(k.NS)))
	b = append(b, k.NS...)
	return append(b, k.Peer...)
}

// parseRowKey reads a row's key. ns is the namespace of the row before: rows
// of one namespace stand together and share one string.
func parseRowKey(b []byte, ns string) (rendezvous.Key, error) {
	if len(b) < 4 || b[0] != 'r' {
		return rendezvous.Key{}, errRow
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if len(b) < 4+n {
		return rendezvous.Key{}, errRow
	}
	if name := b[4 : 4+n]; string(name) != ns {
		ns = string(name)
	}
	return rendezvous.Key{Realm: rendezvous.Realm(b[1]), NS: ns, Peer: peer.ID(b[4+n:])}, nil
}

// appendRow appends a registration's value. expires is by the store's clock.
func appendRow(b []byte, c *rendezvous.Change, expires int64) []byte {
	b = append(b, layout)
	b = binary.BigEndian.AppendUint64(b, c.Pos)
	b = binary.BigEndian.AppendUint64(b, uint64(expires))
	b = binary.BigEndian.AppendUint64(b, c.Seq)
	b = binary.AppendVarint(b, c.TTL.Milliseconds())
	b = append(b, byte(c.Form))
	source := c.Source.AsSlice()
	b = append(b, byte(len(source)))
	b = append(b, source...)
	return append(b, c.Record...)
}

// rowHead is the part of a value that every row has.
const rowHead = 1 + 8 + 8 + 8

// parseRowHead reads a value's position and expiry.
func parseRowHead(b []byte) (pos uint64, expires int64, err error) {
	if len(b) < rowHead || b[0] != layout {
		return 0, 0, errRow
	}
	return binary.BigEndian.Uint64(b[1:]), int64(binary.BigEndian.Uint64(b[9:])), nil
}

// parseRow reads a value into c, but for its Key and Expires. The record is a
// copy.
func parseRow(b []byte, c *rendezvous.Change) (expires int64, err error) {
	c.Pos, expires, err = parseRowHead(b)
	if err != nil {
		return 0, err
	}
	c.Seq = binary.BigEndian.Uint64(b[17:])
	b = b[rowHead:]
	ttl, n := binary.Varint(b)
	if n <= 0 || len(b) < n+2 || ttl < 0 || ttl > math.MaxInt64/int64(time.Millisecond) {
		return 0, errRow
	}
	c.TTL = time.Duration(ttl) * time.Millisecond
	c.Form = rendezvous.Form(b[n])
	size := int(b[n+1])
	b = b[n+2:]
	if len(b) < size {
		return 0, errRow
	}
	if size > 0 {
		var ok bool
		if c.Source, ok = netip.AddrFromSlice(b[:size]); !ok {
			return 0, errRow
		}
	}
	c.Record = append([]byte(nil), b[size:]...)
	return expires, nil
}

// identity is what the store is, from its creation on.
type identity struct {
	rendezvous.Meta

	// lossy is set while the store is open without durability: after a crash
	// positions that were handed out may be used again, so the epoch ends.
	lossy bool
}

func (id identity) encode() []byte {
	b := []byte{layout, 0}
	if id.lossy {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint64(b, id.Epoch)
	return append(b, id.Secret[:]...)
}

func parseIdentity(b []byte) (id identity, err error) {
	if len(b) > 0 && b[0] > layout {
		return id, errNewer
	}
	if len(b) != 2+8+32 {
		return id, errRow
	}
	id.lossy = b[1] != 0
	id.Epoch = binary.BigEndian.Uint64(b[2:])
	copy(id.Secret[:], b[10:])
	return id, nil
}

// cursor is written with every commit.
type cursor struct {
	pos  uint64 // the highest position given out
	time int64  // the store's clock, in milliseconds
	wall int64  // the wall clock at that moment, in milliseconds since 1970
}

func (c cursor) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, c.pos)
	b = binary.BigEndian.AppendUint64(b, uint64(c.time))
	return binary.BigEndian.AppendUint64(b, uint64(c.wall))
}

func parseCursor(b []byte) (cursor, error) {
	if len(b) != 24 {
		return cursor{}, errRow
	}
	return cursor{
		pos:  binary.BigEndian.Uint64(b),
		time: int64(binary.BigEndian.Uint64(b[8:])),
		wall: int64(binary.BigEndian.Uint64(b[16:])),
	}, nil
}
