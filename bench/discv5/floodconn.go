package main

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// floodConn is a UDP socket whose receive queue junk can be put into. What
// comes over the socket takes its place in the same bounded queue. Answers to
// the junk's sources, which do not exist, are counted and go nowhere.
type floodConn struct {
	*net.UDPConn
	queue  chan packet
	closed chan struct{}
	once   sync.Once

	got, away atomic.Int64
}

func newFloodConn(u *net.UDPConn) *floodConn {
	c := &floodConn{UDPConn: u, queue: make(chan packet, floodQueue), closed: make(chan struct{})}
	go func() { // ends when the socket is closed
		for {
			b := make([]byte, 2048)
			n, from, err := u.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			select {
			case c.queue <- packet{from: from, data: b[:n]}:
			default: // full, as a kernel's would be
			}
		}
	}()
	return c
}

// push puts a packet of junk into the queue if there is room.
func (c *floodConn) push(p packet) {
	select {
	case c.queue <- p:
		c.got.Add(1)
	default:
	}
}

// taken is how much junk found room, strays how much of it was answered.
func (c *floodConn) taken() int64 { return c.got.Load() }

func (c *floodConn) strays() int64 { return c.away.Load() }

func (c *floodConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case p := <-c.queue:
		return copy(b, p.data), p.from, nil
	case <-c.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (c *floodConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if !to.Addr().IsLoopback() {
		c.away.Add(1)
		return len(b), nil
	}
	return c.UDPConn.WriteToUDPAddrPort(b, to)
}

func (c *floodConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.UDPConn.Close()
}
