package discv5

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
)

// A PacketConn is a UDP socket, real or simulated; *net.UDPConn is one. It
// must allow one reader and any number of writers at once. Close must make a
// blocked read return.
type PacketConn interface {
	ReadFromUDPAddrPort(b []byte) (n int, addr netip.AddrPort, err error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// socketBuffer is what is asked of the system for packets not yet read: half
// a second of 5,000 packets of the common size.
const socketBuffer = 1 << 20

// readPause keeps a socket that fails without end from burning a core.
const readPause = 10 * time.Millisecond

// listenUDP opens a socket of addr's family.
func listenUDP(addr netip.AddrPort) (PacketConn, error) {
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6" // one socket for each family: their addresses never mix
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("discv5: listen: %w", err)
	}
	_ = conn.SetReadBuffer(socketBuffer) // a smaller buffer drops earlier, no more
	return conn, nil
}

// localAddrPort returns where conn is bound.
func localAddrPort(conn PacketConn) (netip.AddrPort, error) {
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
	}
	ap, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("discv5: address of socket: %w", err)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// A socketReader is what reading a socket needs.
type socketReader struct {
	conn PacketConn
	out  outbox
	// quick: the last packet ended a short round trip that a caller waited for.
	quick bool
	// One byte more than a packet, so that a longer one is seen to be.
	buf [wire.MaxPacket + 1]byte
}

// next handles one packet. An error means that there was none: the socket was
// closed, or has failed, or whoever reads it is to stop.
func (r *socketReader) next(n *Node) error {
	size, from, err := r.conn.ReadFromUDPAddrPort(r.buf[:])
	if err != nil {
		r.failed(n, err)
		return err
	}
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	now := time.Now()
	n.mu.Lock()
	n.core.handle(now, from, r.buf[:size], &r.out)
	n.mu.Unlock()
	r.quick = r.out.quick
	n.flush(&r.out)
	return nil
}

func (r *socketReader) failed(n *Node, err error) {
	switch {
	case errors.Is(err, net.ErrClosed) || n.ctx.Err() != nil:
	case errors.Is(err, os.ErrDeadlineExceeded) && n.turn.conn != nil:
		_ = n.turn.conn.SetReadDeadline(time.Time{})
	default:
		n.log.Debug("socket read failed", "err", err)
		select {
		case <-time.After(readPause):
		case <-n.ctx.Done():
		}
	}
}

// read handles one packet after the other until the socket is closed. There
// is no queue behind the socket's own: what comes too fast is dropped there.
func (n *Node) read(r *socketReader) {
	for n.ctx.Err() == nil {
		if err := r.next(n); errors.Is(err, net.ErrClosed) {
			return
		} else if err == nil && r.quick && n.turn.reader == r {
			n.turn.lend(n.ctx)
		}
	}
}

// flush does what core has put into the outbox and empties it.
func (n *Node) flush(out *outbox) {
	for i := range out.n {
		n.write(out.packets[i])
	}
	for _, j := range out.jobs {
		n.hand(j)
	}
	for _, call := range out.calls {
		n.wg.Go(func() { n.talk(call) })
	}
	for _, e := range out.events {
		n.publish(e)
	}
	for _, ap := range out.votes {
		select {
		case n.voted <- ap:
		default: // one update at a time
		}
	}
	if out.refresh {
		select {
		case n.refreshes <- struct{}{}:
		default: // one is under way
		}
	}
	if out.kick {
		select {
		case n.kick <- struct{}{}:
		default:
		}
	}
	out.reset()
}

func (n *Node) write(p outPacket) {
	conn := n.conn4
	if p.to.Addr().Is6() {
		conn = n.conn6
	}
	if conn == nil {
		n.unsent.Add(1)
		return
	}
	if _, err := conn.WriteToUDPAddrPort(p.b, p.to); err != nil {
		n.unsent.Add(1)
		n.log.Debug("socket write failed", "err", err)
		return
	}
	n.packetsOut.Add(1)
	n.bytesOut.Add(uint64(len(p.b)))
}

// hand gives a job to the worker. Our own handshakes have a queue of their
// own, so that strangers' cannot hold them up. A job that finds its queue
// full is dropped: the peer will try again.
func (n *Node) hand(j *job) {
	queue := n.foreign
	if j.kind != jobAccept {
		queue = n.own
	}
	select {
	case queue <- j:
	default:
		n.dropped.Add(1)
	}
}

// work does the jobs, our own first.
func (n *Node) work() {
	me := &identity{key: n.cfg.Key, id: n.id, codec: wire.NewCodec(n.id), parse: n.parse, known: n.known, learn: n.learn}
	var out outbox
	for {
		var j *job
		select {
		case j = <-n.own:
		default:
			select {
			case j = <-n.own:
			case j = <-n.foreign:
			case <-n.ctx.Done():
				return
			}
		}
		err := j.run(me)
		now := time.Now()
		n.mu.Lock()
		switch {
		case err != nil:
			n.core.stats.HandshakesRefused++
		case j.kind == jobAccept:
			n.core.accepted(now, j, &out)
		case j.kind == jobProve:
			n.core.proved(now, j, &out)
		default:
			n.core.fetched(now, j, &out)
		}
		n.mu.Unlock()
		if err != nil {
			n.log.Debug("handshake or record refused", "err", err)
		}
		n.flush(&out)
	}
}

// loop calls core when something is due.
func (n *Node) loop() {
	var out outbox
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-n.kick:
		case <-n.ctx.Done():
			return
		}
		now := time.Now()
		n.mu.Lock()
		next := n.core.tick(now, &out)
		n.mu.Unlock()
		n.flush(&out)
		timer.Reset(max(time.Until(next), 0))
	}
}
