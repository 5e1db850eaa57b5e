package reach

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/muster-p2p/muster/reach/wire"
)

// errTooLong says that a message is longer than it may be.
var errTooLong = errors.New("reach: message too long")

// A messageReader reads messages with little memory of its own: thousands of
// streams wait for messages of a few bytes.
type messageReader struct {
	r     io.Reader
	small [64]byte // holds most messages whole
}

// read reads the next message into m. io.EOF means that the stream ended before
// it.
func (r *messageReader) read(m *wire.Message) error {
	size, err := r.size()
	if err != nil {
		return err
	}
	if size > wire.MaxMessage {
		return errTooLong
	}
	b := r.small[:]
	if size > len(b) {
		b = slices.Grow([]byte(nil), size)
	}
	if _, err := io.ReadFull(r.r, b[:size]); err != nil {
		return noEOF(err)
	}
	return wire.Parse(b[:size], m)
}

// size reads a length of at most two bytes: longer ones are too long anyway.
func (r *messageReader) size() (size int, err error) {
	const maxBytes = 2
	for i := range maxBytes {
		if _, err := io.ReadFull(r.r, r.small[:1]); err != nil {
			if i > 0 {
				err = noEOF(err)
			}
			return 0, err
		}
		size |= int(r.small[0]&0x7f) << (7 * i)
		if r.small[0] < 0x80 {
			return size, nil
		}
	}
	return 0, errTooLong
}

// noEOF is for where a stream may not end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// within runs f and resets the stream if that takes longer than d, so that f
// ends with an error. It needs no deadlines, which not every stream has.
func within(s network.Stream, d time.Duration, f func() error) error {
	t := time.AfterFunc(d, func() { _ = s.Reset() })
	err := f()
	if !t.Stop() && err != nil {
		return errors.Join(context.DeadlineExceeded, err)
	}
	return err
}

// addrOf returns the address of an end of a connection. One through a
// libp2p relay has none: it would be the relay's.
func addrOf(a ma.Multiaddr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return netip.Addr{}
	}
	ip, err := manet.ToIP(a)
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
