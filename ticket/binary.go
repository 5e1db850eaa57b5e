package ticket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	schemeHTTP  = "http"
	schemeHTTPS = "https"

	keySize      = 32
	checksumSize = 4

	// maxBinary is what fits in MaxText characters of 5 bits.
	maxBinary = (MaxText - len(Prefix)) * 5 / 8

	// maxLength is the longest token or URL that its length byte can say.
	maxLength = 127
)

// Bits of the flags.
const (
	flagWholePeer   = 1 << 0
	flagPackedToken = 1 << 1
	shiftServers    = 2
	shiftHTTP       = 4
)

// flagPacked is the bit of a server's length.
const flagPacked = 1 << 7

// ed25519Prefix begins the peer ID of an Ed25519 key: an identity multihash
// of 36 bytes that holds a protobuf of type 1 and 32 bytes.
// https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#peer-ids
const ed25519Prefix = "\x00\x24\x08\x01\x12\x20"

// castagnoli's polynomial finds every burst of up to 32 bits, so any slip in
// six letters in a row, two swapped neighbours among them, and every change of
// up to five bits anywhere in a ticket.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendBinary appends the bytes of a valid t.
func (t Ticket) appendBinary(b []byte) ([]byte, error) {
	start := len(b)
	flags := byte(len(t.Servers)-1) << shiftServers
	b = append(b, 0)
	key, compact := strings.CutPrefix(string(t.Peer), ed25519Prefix)
	if compact && len(key) == keySize {
		b = append(b, key...)
	} else {
		flags |= flagWholePeer
		if len(t.Peer) > maxBinary {
			return nil, t.tooLong()
		}
		b = append(b, byte(len(t.Peer)))
		b = append(b, t.Peer...)
	}
	if len(t.Token) > maxLength {
		return nil, t.tooLong()
	}
	b = append(b, byte(len(t.Token)))
	if packable(t.Token, alphabet32) {
		flags |= flagPackedToken
		b = pack32(b, t.Token)
	} else {
		b = append(b, t.Token...)
	}
	for i, server := range t.Servers {
		scheme, rest, _ := strings.Cut(server, "://")
		if scheme == schemeHTTP {
			flags |= 1 << (shiftHTTP + i)
		}
		if len(rest) > maxLength {
			return nil, t.tooLong()
		}
		if packable(rest, alphabet39) {
			b = append(b, flagPacked|byte(len(rest)))
			b = pack39(b, rest)
		} else {
			b = append(b, byte(len(rest)))
			b = append(b, rest...)
		}
	}
	b[start] = flags
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	if len(b)-start > maxBinary {
		return nil, t.tooLong()
	}
	return b, nil
}

// tooLong says which part of t is the longest.
func (t Ticket) tooLong() error {
	part, size := "token", len(t.Token)
	for _, s := range t.Servers {
		if len(s) > size {
			part, size = "server "+s, len(s)
		}
	}
	if len(t.Servers) > 1 {
		return fmt.Errorf("%w: leave out one of %d servers; the longest part is the %s (%d characters)", ErrTooLong, len(t.Servers), part, size)
	}
	return fmt.Errorf("%w: the longest part is the %s (%d characters)", ErrTooLong, part, size)
}

// errDamaged is how parseBinary refuses: the caller says what to do about it.
var errDamaged = errors.New("damaged")

// parseBinary is the inverse of appendBinary, for bytes whose checksum is
// right. It takes only what appendBinary writes.
func parseBinary(b []byte) (Ticket, error) {
	r := reader(b[:len(b)-checksumSize])
	flags := r.take(1)[0]
	var t Ticket
	if flags&flagWholePeer != 0 {
		t.Peer = peer.ID(r.take(r.length(0xff)))
	} else {
		t.Peer = peer.ID(ed25519Prefix + string(r.take(keySize)))
	}
	n := r.length(0xff)
	if flags&flagPackedToken != 0 {
		t.Token = unpack32(r.take(packedSize32(n)), n)
	} else {
		t.Token = string(r.take(n))
	}
	for i := range int(flags>>shiftServers)&(MaxServers-1) + 1 {
		scheme := schemeHTTPS
		if flags>>(shiftHTTP+i)&1 != 0 {
			scheme = schemeHTTP
		}
		t.Servers = append(t.Servers, scheme+"://"+r.server())
	}
	if err := t.validate(); err != nil {
		return Ticket{}, err
	}
	again, err := t.appendBinary(nil)
	if err != nil || !slices.Equal(again, b) {
		return Ticket{}, errDamaged
	}
	return t, nil
}

// A reader takes bytes from its front. When they run out it gives zeroes: the
// comparison at the end of parseBinary finds that.
type reader []byte

func (r *reader) take(n int) []byte {
	if n > len(*r) {
		*r = nil
		return make([]byte, n)
	}
	b := (*r)[:n]
	*r = (*r)[n:]
	return b
}

// length takes a byte under a mask.
func (r *reader) length(mask byte) int { return int(r.take(1)[0] & mask) }

func (r *reader) server() string {
	l := r.take(1)[0]
	n := int(l &^ flagPacked)
	if l&flagPacked != 0 {
		return unpack39(r.take(packedSize39(n)), n)
	}
	return string(r.take(n))
}
