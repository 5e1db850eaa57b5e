// Package enr implements Ethereum Node Records: signed, versioned lists of
// key/value pairs that say who a node is and where it can be reached.
//
// Start with [ParseText] or [Parse] to read a record and with [Content.Sign]
// to make one. A [Record] is immutable, its signature has been verified, and
// it may be shared between goroutines.
//
// The record is an RLP list of at most 300 bytes:
//
//	record    = [signature, seq, k, v, k, v, ...]
//	content   = [seq, k, v, k, v, ...]
//	signature = r || s over keccak256(content)      (identity scheme "v4")
//
// https://github.com/ethereum/devp2p/blob/master/enr.md
//
// The decoder is strict: canonical RLP throughout, keys sorted and unique, a
// low s, no byte after the record, the "v4" scheme only. A malformed value of
// a known key (an "ip" of five bytes) spoils that entry and not the record.
package enr

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/muster-p2p/muster/internal/rlp"
	"github.com/muster-p2p/muster/internal/secp"
)

// MaxSize is the largest encoded record in bytes: "The maximum encoded size
// of a node record is 300 bytes. Implementations should reject records larger
// than this size."
const MaxSize = 300

// Errors of Parse, ParseText, ParseProven and Sign. They are wrapped with details.
var (
	ErrTooLarge  = errors.New("enr: record larger than 300 bytes")
	ErrMalformed = errors.New("enr: malformed record")
	ErrUnsorted  = errors.New("enr: keys not sorted or not unique")
	ErrScheme    = errors.New("enr: unknown identity scheme")
	ErrSignature = errors.New("enr: invalid signature")
	ErrWrongID   = errors.New("enr: record of another node")
)

// Keys with a meaning of their own.
// https://github.com/ethereum/devp2p/blob/master/enr.md#record-structure
const (
	keyScheme    = "id"
	keySecp256k1 = "secp256k1"
	keyIP        = "ip"
	keyIP6       = "ip6"
	keyUDP       = "udp"
	keyUDP6      = "udp6"
	keyTCP       = "tcp"
	keyTCP6      = "tcp6"
	keyQUIC      = "quic"
	keyQUIC6     = "quic6"

	schemeV4 = "v4"
)

// A Record is a verified node record. Use Parse, ParseText or Content.Sign
// to get one; the zero value is no record.
type Record struct {
	raw []byte // the whole RLP list
	seq uint64
	id  ID
	y   [32]byte // of the public key: computing it costs 13 µs
}

// Parse reads one record that fills b and verifies its signature, which
// costs some hundred microseconds; [Cache] spares that for bytes seen before.
// It keeps no reference to b.
func Parse(b []byte) (*Record, error) {
	return parse(b, nil, func(key PublicKey, content [32]byte, signature []byte) bool {
		return key.Verify(content, signature)
	})
}

// A Proof is a signature that the owner of a record made of something else.
type Proof struct {
	Digest    [32]byte
	Signature []byte // r || s
}

// ParseProven is Parse of the record of id, which came with a proof. It
// verifies the record's signature and the proof's together, which costs two
// thirds of one after the other; a forgery passes with a probability below
// 2^-61. An error says that one of them is wrong, or that the record is not of
// id, which is found out first.
func ParseProven(b []byte, id ID, p Proof) (*Record, error) {
	return parse(b, &id, func(key PublicKey, content [32]byte, signature []byte) bool {
		return key.VerifyBoth(secp.Signed{Digest: content, Signature: signature}, secp.Signed(p))
	})
}

func parse(b []byte, id *ID, verify func(key PublicKey, content [32]byte, signature []byte) bool) (*Record, error) {
	l, err := layoutOf(b)
	if err != nil {
		return nil, err
	}
	key, err := secp.NewPublicKey(l.key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r := &Record{seq: l.seq, id: key.NodeID(), y: key.Y()}
	if id != nil && r.id != *id {
		return nil, ErrWrongID
	}
	if !verify(key, contentHash(l.content), l.signature) {
		return nil, ErrSignature
	}
	r.raw = bytes.Clone(b)
	return r, nil
}

// CheckForm checks all that Parse does but the signature and that the public
// key is a point of the curve. It allocates nothing. A record that passes is
// well-formed, not trustworthy.
func CheckForm(b []byte) error {
	_, err := layoutOf(b)
	return err
}

// layout is where the parts of an encoded record lie.
type layout struct {
	signature []byte
	content   []byte // seq and the pairs, without a list header
	seq       uint64
	key       []byte // compressed public key
}

func layoutOf(b []byte) (layout, error) {
	if len(b) > MaxSize {
		return layout{}, ErrTooLarge
	}
	var l layout
	items, rest, err := rlp.List(b)
	if err != nil {
		return l, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(rest) != 0 {
		return l, fmt.Errorf("%w: %d bytes after the record", ErrMalformed, len(rest))
	}
	if l.signature, l.content, err = rlp.String(items); err != nil {
		return l, fmt.Errorf("%w: signature: %w", ErrMalformed, err)
	}
	pairs := l.content
	if l.seq, pairs, err = rlp.Uint(pairs); err != nil {
		return l, fmt.Errorf("%w: sequence number: %w", ErrMalformed, err)
	}
	return l, l.checkPairs(pairs)
}

// checkPairs goes through the pairs: "The key/value pairs must be sorted by
// key and must be unique, i.e. any key may be present only once."
func (l *layout) checkPairs(pairs []byte) error {
	var prev, scheme []byte
	first := true
	for len(pairs) > 0 {
		key, rest, err := rlp.String(pairs)
		if err != nil {
			return fmt.Errorf("%w: key: %w", ErrMalformed, err)
		}
		if !first && bytes.Compare(prev, key) >= 0 {
			return fmt.Errorf("%w: %q after %q", ErrUnsorted, key, prev)
		}
		list, value, after, err := rlp.Split(rest)
		if err != nil {
			return fmt.Errorf("%w: value of %q: %w", ErrMalformed, key, err)
		}
		if list && !rlp.Valid(rest[:len(rest)-len(after)]) {
			return fmt.Errorf("%w: value of %q: %w", ErrMalformed, key, rlp.ErrCanonical)
		}
		if !list {
			switch string(key) {
			case keyScheme:
				scheme = value
			case keySecp256k1:
				l.key = value
			}
		}
		first, prev, pairs = false, key, after
	}
	if string(scheme) != schemeV4 {
		return fmt.Errorf("%w: %q", ErrScheme, scheme)
	}
	if len(l.key) != secp.PublicKeySize {
		return fmt.Errorf("%w: no secp256k1 key of %d bytes", ErrMalformed, secp.PublicKeySize)
	}
	if len(l.signature) != secp.SignatureSize {
		return fmt.Errorf("%w: signature of %d bytes", ErrSignature, len(l.signature))
	}
	return nil
}

// contentHash is what the "v4" scheme signs: "apply the keccak256 hash
// function (as used by the EVM) to content".
func contentHash(content []byte) [32]byte {
	var buf [MaxSize + 4]byte
	return secp.Keccak256(append(rlp.AppendList(buf[:0], len(content)), content...))
}

// ID returns the node ID: the hash of the public key.
func (r *Record) ID() ID { return r.id }

// Seq returns the sequence number: of two records of one node the one with
// the higher number is the newer.
func (r *Record) Seq() uint64 { return r.seq }

// Bytes returns the record's RLP encoding. The caller must not change it.
func (r *Record) Bytes() []byte { return r.raw }

// PublicKey returns the node's key.
func (r *Record) PublicKey() PublicKey {
	b, _ := r.bytesOf(keySecp256k1)
	key, err := secp.NewPublicKeyXY(b[1:], r.y[:])
	if err != nil {
		panic("BUG: enr: the key of a verified record is invalid")
	}
	return key
}

// Equal reports whether r and o are the same bytes.
func (r *Record) Equal(o *Record) bool {
	return r == o || r != nil && o != nil && bytes.Equal(r.raw, o.raw)
}

// Pairs goes through the keys in order, each with its value as raw RLP.
// The values alias the record and must not be changed.
func (r *Record) Pairs() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for pairs := r.pairs(); len(pairs) > 0; {
			key, rest, _ := rlp.String(pairs)
			_, _, after, _ := rlp.Split(rest)
			if !yield(string(key), rest[:len(rest)-len(after)]) {
				return
			}
			pairs = after
		}
	}
}

// Get returns the value of key as raw RLP, and whether there is one. The
// value aliases the record and must not be changed.
func (r *Record) Get(key string) (value []byte, ok bool) {
	for pairs := r.pairs(); len(pairs) > 0; {
		k, rest, _ := rlp.String(pairs)
		_, _, after, _ := rlp.Split(rest)
		if string(k) == key {
			return rest[:len(rest)-len(after)], true
		}
		pairs = after
	}
	return nil, false
}

// Contains reports whether key is there with exactly that value, which is a
// byte string and not RLP: Contains("id", []byte("v4")) is always true.
func (r *Record) Contains(key string, value []byte) bool {
	b, ok := r.bytesOf(key)
	return ok && bytes.Equal(b, value)
}

// pairs returns the encoded pairs. The record was checked when it was read,
// so nothing here can fail.
func (r *Record) pairs() []byte {
	items, _, _ := rlp.List(r.raw)
	_, items, _ = rlp.String(items)
	_, items, _ = rlp.String(items)
	return items
}

// bytesOf returns the value of key if it is a byte string.
func (r *Record) bytesOf(key string) ([]byte, bool) {
	v, ok := r.Get(key)
	if !ok {
		return nil, false
	}
	b, _, err := rlp.String(v)
	return b, err == nil
}
