package simnet

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// maxPayload is the largest UDP payload of IPv4 (RFC 768, RFC 791).
const maxPayload = 65507

// UDPConn is a UDP socket on a [Host]. It has the methods of *net.UDPConn
// that programs use, and net.PacketConn, with the same meaning: reads and
// writes may run at once, Close frees a waiting reader, a datagram that is
// longer than the reader's buffer is cut off.
type UDPConn struct {
	host   *Host
	port   uint16
	stream uint64 // names this socket to the dice
	sent   atomic.Uint64

	ready  chan struct{} // capacity 1: the queue may hold something
	closed chan struct{}
	once   sync.Once
	read   deadline

	mu    sync.Mutex
	queue []Datagram
}

var _ net.PacketConn = (*UDPConn)(nil)

func newUDPConn(h *Host, port uint16) *UDPConn {
	c := &UDPConn{host: h, port: port, ready: make(chan struct{}, 1), closed: make(chan struct{})}
	c.read.init()
	c.stream = streamOf(h.addrs, port)
	return c
}

// streamOf is never injectStream in practice, and harmless if it is.
func streamOf(addrs []netip.Addr, port uint16) uint64 {
	d := dice{x: uint64(port)}
	for _, a := range addrs {
		for _, b := range a.As16() {
			d.x ^= uint64(b)
			d.x = d.next()
		}
	}
	return d.next()
}

// LocalAddr returns the host's first address and the port, as a *net.UDPAddr.
func (c *UDPConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.AddrPort()) }

// AddrPort is LocalAddr as a value.
func (c *UDPConn) AddrPort() netip.AddrPort { return netip.AddrPortFrom(c.host.addrs[0], c.port) }

// ReadFromUDPAddrPort waits for a datagram.
func (c *UDPConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		if isClosed(c.closed) {
			return 0, netip.AddrPort{}, c.opError("read", net.ErrClosed)
		}
		timeout := c.read.wait()
		if isClosed(timeout) {
			return 0, netip.AddrPort{}, c.opError("read", os.ErrDeadlineExceeded)
		}
		if d, ok := c.pop(); ok {
			return copy(b, d.Payload), d.From, nil
		}
		select {
		case <-c.ready:
		case <-c.closed:
		case <-timeout:
		}
	}
}

// ReadFrom is ReadFromUDPAddrPort for net.PacketConn.
func (c *UDPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteToUDPAddrPort sends a datagram and never waits. As with a kernel, no
// error does not mean that it arrives.
func (c *UDPConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if isClosed(c.closed) {
		return 0, c.opError("write", net.ErrClosed)
	}
	if len(b) > maxPayload {
		return 0, c.opError("write", syscall.EMSGSIZE)
	}
	if !to.IsValid() || to.Port() == 0 {
		return 0, c.opError("write", syscall.EINVAL)
	}
	if err := c.host.send(c, to, b, c.sent.Add(1)); err != nil {
		return 0, c.opError("write", err)
	}
	return len(b), nil
}

// WriteTo is WriteToUDPAddrPort for net.PacketConn; to is a *net.UDPAddr.
func (c *UDPConn) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, c.opError("write", syscall.EINVAL)
	}
	return c.WriteToUDPAddrPort(b, u.AddrPort())
}

// Close frees waiting readers and the port. The second call returns
// net.ErrClosed.
func (c *UDPConn) Close() error {
	err := c.opError("close", net.ErrClosed)
	c.once.Do(func() {
		close(c.closed)
		c.read.stop()
		c.host.release(c)
		err = nil
	})
	return err
}

// SetDeadline sets the read deadline; writes never wait.
func (c *UDPConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline makes reads that wait at t fail with os.ErrDeadlineExceeded;
// the zero time means never.
func (c *UDPConn) SetReadDeadline(t time.Time) error {
	if isClosed(c.closed) {
		return c.opError("set", net.ErrClosed)
	}
	c.read.set(t)
	return nil
}

// SetWriteDeadline does nothing: writes never wait.
func (c *UDPConn) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer does nothing: [Config.Queue] bounds the queue.
func (c *UDPConn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing: writes never wait.
func (c *UDPConn) SetWriteBuffer(int) error { return nil }

func (c *UDPConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Addr: c.LocalAddr(), Err: err}
}

func (c *UDPConn) push(d Datagram) {
	c.mu.Lock()
	full := len(c.queue) >= c.host.net.cfg.Queue
	if !full {
		c.queue = append(c.queue, d)
	}
	c.mu.Unlock()
	if full {
		c.host.net.stats.overflow.Add(1)
		return
	}
	c.host.net.stats.delivered.Add(1)
	c.signal()
}

// pop takes the oldest datagram. If more are waiting it passes the signal on,
// so that a second reader wakes too.
func (c *UDPConn) pop() (Datagram, bool) {
	c.mu.Lock()
	if len(c.queue) == 0 {
		c.mu.Unlock()
		return Datagram{}, false
	}
	d := c.queue[0]
	c.queue[0] = Datagram{}
	c.queue = c.queue[1:]
	more := len(c.queue) > 0
	if !more {
		c.queue = nil
	}
	c.mu.Unlock()
	if more {
		c.signal()
	}
	return d, true
}

func (c *UDPConn) signal() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
