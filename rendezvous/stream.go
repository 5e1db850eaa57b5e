package rendezvous

import (
	"bufio"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// errTooLong says that a frame is longer than its reader accepts.
var errTooLong = errors.New("rendezvous: message too long")

// readFrame reads a message behind its length into buf, which it grows if need
// be, but never beyond limit. io.EOF means that the stream ended before it.
func readFrame(r *bufio.Reader, buf []byte, limit int) ([]byte, error) {
	size, err := readSize(r)
	if err != nil {
		return buf, err
	}
	if size > uint64(limit) {
		return buf, errTooLong
	}
	// Memory comes with the bytes: a length alone costs its sender nothing.
	const step = 4 << 10
	buf = buf[:0]
	for len(buf) < int(size) {
		n := min(int(size)-len(buf), max(step, len(buf)))
		buf = slices.Grow(buf, n)
		got, err := io.ReadFull(r, buf[len(buf):len(buf)+n])
		buf = buf[:len(buf)+got]
		if err != nil {
			return buf, noEOF(err)
		}
	}
	return buf, nil
}

// readSize reads a varint of at most five bytes: longer ones are too long for
// any reader, so there is no need to read on.
func readSize(r *bufio.Reader) (size uint64, err error) {
	const maxBytes = 5
	for i := range maxBytes {
		b, err := r.ReadByte()
		if err != nil {
			if i > 0 {
				err = noEOF(err)
			}
			return 0, err
		}
		size |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
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

// A session is a stream that asks a point.
type session struct {
	p       *Point
	s       network.Stream
	dialect wire.Dialect
	realm   Realm
	peer    peer.ID
	remote  ma.Multiaddr
	source  netip.Addr // for limits; invalid if it does not count
	local   bool       // on this machine
	rng     *rand.Rand
	in      wire.Message
	out     []byte // for small answers
}

func newSession(p *Point, s network.Stream, d wire.Dialect) *session {
	x := &session{p: p, s: s, dialect: d, realm: RealmLibp2p, peer: s.Conn().RemotePeer(), remote: s.Conn().RemoteMultiaddr()}
	if d == wire.Waku {
		x.realm = RealmWaku
	}
	x.rng = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	if addr, ok := remoteIP(x.remote); ok {
		x.source = sourceOf(addr)
		x.local = !x.source.IsValid()
	}
	return x
}

// remoteIP returns the address that a connection comes from. One through a
// relay has none: it would be the relay's.
func remoteIP(a ma.Multiaddr) (netip.Addr, bool) {
	if a == nil {
		return netip.Addr{}, false
	}
	if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return netip.Addr{}, false
	}
	ip, err := manet.ToIP(a)
	if err != nil {
		return netip.Addr{}, false
	}
	addr, ok := netip.AddrFromSlice(ip)
	return addr.Unmap(), ok
}

// handle serves a stream until it ends.
func (p *Point) handle(s network.Stream, d wire.Dialect) {
	if !p.track(s) {
		p.metrics.refused[reasonStreams].Add(1)
		_ = s.Reset()
		return
	}
	defer p.untrack(s)
	x := newSession(p, s, d)
	if err := x.serve(); err != nil {
		p.countStreamError(err)
		p.cfg.Logger.Debug("stream reset", "peer", x.peer, "err", err)
		_ = s.Reset()
		return
	}
	// The client has ended its side: rust-libp2p does so right after its
	// request, before it reads. Reset would take the answer back.
	_ = s.Close()
}

// track counts a new stream in, unless there are too many.
func (p *Point) track(s network.Stream) bool {
	if err := s.Scope().SetService(serviceName); err != nil {
		return false
	}
	id := s.Conn().RemotePeer()
	p.streamMu.Lock()
	defer p.streamMu.Unlock()
	if p.closed || len(p.streams) >= p.cfg.MaxStreams || p.perPeer[id] >= p.cfg.MaxPeerStreams {
		return false
	}
	p.streams[s] = true
	p.perPeer[id]++
	p.metrics.streams.Add(1)
	p.wg.Add(1)
	return true
}

// serviceName is the point's name in the resource manager.
const serviceName = "rendezvous"

func (p *Point) untrack(s network.Stream) {
	id := s.Conn().RemotePeer()
	p.streamMu.Lock()
	delete(p.streams, s)
	if p.perPeer[id]--; p.perPeer[id] == 0 {
		delete(p.perPeer, id)
	}
	p.streamMu.Unlock()
	p.metrics.streams.Add(-1)
	p.wg.Done()
}

func (p *Point) countStreamError(err error) {
	switch {
	case errors.Is(err, wire.ErrMalformed):
		p.metrics.refused[reasonMalformed].Add(1)
	case errors.Is(err, errTooLong):
		p.metrics.refused[reasonTooLong].Add(1)
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.metrics.refused[reasonDeadline].Add(1)
	}
}

// serve answers requests one after the other. It returns nil when the client
// has ended its side between two of them, or has been idle for long.
func (x *session) serve() error {
	// Enough for most requests; longer ones are read past it.
	const readBuffer, keep = 512, 8 << 10
	r := bufio.NewReaderSize(x.s, readBuffer)
	var buf []byte
	idle := FirstDeadline
	for {
		_ = x.s.SetReadDeadline(time.Now().Add(idle))
		if _, err := r.Peek(1); err != nil {
			if errors.Is(err, io.EOF) || idle == IdleDeadline && errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		}
		if idle == IdleDeadline {
			_ = x.s.SetReadDeadline(time.Now().Add(FirstDeadline))
		}
		idle = IdleDeadline
		var err error
		if buf, err = readFrame(r, buf, MaxRequestSize); err != nil {
			return err
		}
		if err := wire.Parse(x.dialect, buf, &x.in, 0); err != nil {
			return err
		}
		if err := x.answer(); err != nil {
			return err
		}
		if cap(buf) > keep {
			buf = nil
		}
	}
}

// write sends an answer.
func (x *session) write(frame []byte) error {
	_ = x.s.SetWriteDeadline(time.Now().Add(WriteDeadline))
	_, err := x.s.Write(frame)
	return err
}
