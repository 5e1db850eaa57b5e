package enr

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/muster-p2p/muster/internal/rlp"
	"github.com/muster-p2p/muster/internal/secp"
)

// Content is what a record will say once it is signed: a sequence number and
// pairs. The zero value is empty and ready to use. It is not safe for
// concurrent use. The "id" and "secp256k1" entries are Sign's.
type Content struct {
	Seq   uint64
	pairs map[string][]byte // values as RLP
}

// Content returns a copy of what r says, to be changed and signed again.
func (r *Record) Content() Content {
	c := Content{Seq: r.seq, pairs: map[string][]byte{}}
	for k, v := range r.Pairs() {
		c.pairs[k] = bytes.Clone(v)
	}
	return c
}

// Clone returns an independent copy.
func (c *Content) Clone() Content {
	return Content{Seq: c.Seq, pairs: maps.Clone(c.pairs)}
}

// SameEntries reports whether c and o say the same, whatever their numbers.
func (c *Content) SameEntries(o *Content) bool {
	return maps.EqualFunc(c.pairs, o.pairs, bytes.Equal)
}

// SetRaw sets key to a value that is RLP already: any one canonical item. The
// value is copied. It reports an error and sets nothing if it is not.
func (c *Content) SetRaw(key string, value []byte) error {
	if len(value) > MaxSize {
		return ErrTooLarge
	}
	if !rlp.Valid(value) {
		return fmt.Errorf("%w: value of %q: %w", ErrMalformed, key, rlp.ErrCanonical)
	}
	c.set(key, bytes.Clone(value))
	return nil
}

// Set sets key to a byte string.
func (c *Content) Set(key string, value []byte) { c.set(key, rlp.AppendString(nil, value)) }

// SetUint sets key to an integer.
func (c *Content) SetUint(key string, value uint64) { c.set(key, rlp.AppendUint(nil, value)) }

// SetIP sets "ip" or "ip6", by the kind of address.
func (c *Content) SetIP(a netip.Addr) {
	if a = a.Unmap(); a.Is4() {
		c.Set(keyIP, a.AsSlice())
	} else {
		c.Set(keyIP6, a.AsSlice())
	}
}

// SetUDP sets the "udp" port.
func (c *Content) SetUDP(port uint16) { c.SetUint(keyUDP, uint64(port)) }

// SetUDP6 sets the "udp6" port; it is needed only where it differs from "udp".
func (c *Content) SetUDP6(port uint16) { c.SetUint(keyUDP6, uint64(port)) }

// SetTCP sets the "tcp" port.
func (c *Content) SetTCP(port uint16) { c.SetUint(keyTCP, uint64(port)) }

// SetTCP6 sets the "tcp6" port.
func (c *Content) SetTCP6(port uint16) { c.SetUint(keyTCP6, uint64(port)) }

// SetQUIC sets the "quic" port.
func (c *Content) SetQUIC(port uint16) { c.SetUint(keyQUIC, uint64(port)) }

// SetQUIC6 sets the "quic6" port.
func (c *Content) SetQUIC6(port uint16) { c.SetUint(keyQUIC6, uint64(port)) }

// SetUDPEndpoint sets the address and the UDP port of one address family.
// The port of IPv6 goes to "udp6".
func (c *Content) SetUDPEndpoint(ap netip.AddrPort) {
	c.SetIP(ap.Addr())
	if ap.Addr().Unmap().Is4() {
		c.SetUDP(ap.Port())
	} else {
		c.SetUDP6(ap.Port())
	}
}

// Delete removes key.
func (c *Content) Delete(key string) { delete(c.pairs, key) }

func (c *Content) set(key string, value []byte) {
	if c.pairs == nil {
		c.pairs = map[string][]byte{}
	}
	c.pairs[key] = value
}

// Sign makes a record of c with the "v4" scheme. It sets "id" and
// "secp256k1" in c. The error is ErrTooLarge if the record would not fit.
func (c *Content) Sign(key *PrivateKey) (*Record, error) {
	pub := key.Public()
	compressed := pub.Compressed()
	c.Set(keyScheme, []byte(schemeV4))
	c.Set(keySecp256k1, compressed[:])

	content := c.appendTo(nil)
	sig := key.Sign(secp.Keccak256(append(rlp.AppendList(nil, len(content)), content...)))
	payload := append(rlp.AppendString(nil, sig[:]), content...)
	if rlp.ListSize(len(payload)) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, rlp.ListSize(len(payload)))
	}
	raw := append(rlp.AppendList(nil, len(payload)), payload...)
	return &Record{raw: raw, seq: c.Seq, id: pub.NodeID(), y: pub.Y()}, nil
}

// appendTo appends the content in its canonical order, without a list header.
func (c *Content) appendTo(dst []byte) []byte {
	dst = rlp.AppendUint(dst, c.Seq)
	for _, k := range slices.Sorted(maps.Keys(c.pairs)) {
		dst = append(rlp.AppendString(dst, []byte(k)), c.pairs[k]...)
	}
	return dst
}

// NextSeq returns the sequence number for a record that follows one with the
// number stored, which is 0 if there was none. It is the time in
// milliseconds, so that it does not fall when an old data directory is
// restored or lost, and always more than stored, so that it does not fall
// when the clock does.
func NextSeq(stored uint64, now time.Time) uint64 {
	if stored == math.MaxUint64 {
		return stored // it cannot grow; nothing can follow
	}
	return max(stored+1, uint64(max(now.UnixMilli(), 0)))
}
