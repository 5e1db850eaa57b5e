package simnet

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
)

// firstEphemeral is where port numbers start when a socket asks for none:
// RFC 6335, section 6, dynamic ports.
const firstEphemeral = 49152

// Host is a machine with one or more addresses on one segment: the public
// network or the inner side of a NAT.
type Host struct {
	net   *Net
	nat   *NAT // nil on the public network
	addrs []netip.Addr

	mu    sync.Mutex
	ports map[uint16]*UDPConn
	next  uint16
}

// Addrs returns the host's addresses, in the order they were given.
func (h *Host) Addrs() []netip.Addr { return slices.Clone(h.addrs) }

// Leave closes the host's sockets and takes its addresses off the segment, as
// when a machine is unplugged. They can be given to another host.
func (h *Host) Leave() {
	h.mu.Lock()
	open := slices.Collect(maps.Values(h.ports))
	h.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // cannot fail on an open socket
	}
	if h.nat == nil {
		h.net.public.detach(h.addrs)
		return
	}
	h.nat.inside.detach(h.addrs)
	if h.nat.cfg.Transparent {
		h.nat.outerSegment().detach(h.addrs)
	}
}

// ListenUDP opens a socket on all addresses of the host. Port 0 takes a free
// one. The error is a *net.OpError around EADDRINUSE, or net.ErrClosed after
// the network was closed.
func (h *Host) ListenUDP(port uint16) (*UDPConn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ports == nil {
		h.ports, h.next = map[uint16]*UDPConn{}, firstEphemeral
	}
	if port == 0 {
		var err error
		if port, err = h.freePortLocked(); err != nil {
			return nil, h.listenError(err)
		}
	}
	if h.ports[port] != nil {
		return nil, h.listenError(syscall.EADDRINUSE)
	}
	c := newUDPConn(h, port)
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.closed {
		return nil, h.listenError(net.ErrClosed)
	}
	h.net.sockets[c] = struct{}{}
	h.ports[port] = c
	return c, nil
}

func (h *Host) listenError(err error) error {
	return &net.OpError{Op: "listen", Net: "udp", Err: err}
}

func (h *Host) freePortLocked() (uint16, error) {
	for range 1<<16 - firstEphemeral {
		p := h.next
		if h.next++; h.next == 0 {
			h.next = firstEphemeral
		}
		if h.ports[p] == nil {
			return p, nil
		}
	}
	return 0, errors.New("no free port")
}

// send routes a datagram of one of the host's sockets.
func (h *Host) send(c *UDPConn, to netip.AddrPort, payload []byte, seq uint64) error {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	from, ok := h.source(to.Addr())
	if !ok {
		return fmt.Errorf("no route to %v: %w", to.Addr(), syscall.ENETUNREACH)
	}
	h.net.count(payload)
	d := Datagram{From: netip.AddrPortFrom(from, c.port), To: to, Payload: payload}
	switch {
	case slices.Contains(h.addrs, to.Addr()):
		d.Payload = slices.Clone(payload)
		h.receive(d) // to itself: no wire in between
	case h.nat != nil:
		h.nat.outbound(d, c.stream, seq)
	default:
		h.net.transmit(d, c.stream, seq)
	}
	return nil
}

// source picks the address to send from: the first of the same family.
func (h *Host) source(to netip.Addr) (netip.Addr, bool) {
	for _, a := range h.addrs {
		if a.Is4() == to.Is4() {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// receive hands a datagram, whose payload is nobody else's, to its socket.
func (h *Host) receive(d Datagram) {
	h.mu.Lock()
	c := h.ports[d.To.Port()]
	h.mu.Unlock()
	if c == nil {
		h.net.stats.unroutable.Add(1)
		return
	}
	c.push(d)
}

func (h *Host) release(c *UDPConn) {
	h.mu.Lock()
	if h.ports[c.port] == c {
		delete(h.ports, c.port)
	}
	h.mu.Unlock()
	h.net.mu.Lock()
	delete(h.net.sockets, c)
	h.net.mu.Unlock()
}
