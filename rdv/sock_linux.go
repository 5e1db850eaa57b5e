package rdv

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// canPrime says that [dialPrimed] works on this platform.
const canPrime = true

// primeMinTTL is the IP_MINTTL of every socket that connects with the peer. It
// guards a prime against the ICMP error that its own SYN calls forth: Linux
// drops an error whose quoted packet had fewer hops left, and by then the SYN
// had none. And it makes a host ignore a prime that gets as far as to it: the
// peer's other packets start with 64 hops at least and arrive with more.
const primeMinTTL = maxTTL + 1

// primeGrace is how long a simultaneous open that has begun may take beyond
// the end of its prime: the handshake's last half round trip.
const primeGrace = 500 * time.Millisecond

// ignorePrimes sets primeMinTTL on the socket c.
func ignorePrimes(network string, c syscall.RawConn) error {
	var err4, err6 error
	if err := c.Control(func(fd uintptr) {
		err4 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MINTTL, primeMinTTL)
		if network != "tcp4" {
			err6 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, primeMinTTL)
		}
	}); err != nil {
		return err
	}
	if network == "tcp6" {
		return err6 // the other option is for a socket of both families
	}
	return errors.Join(err4, err6)
}

// dialPrimed connects from port with a first SYN that makes only a.ttl hops.
// The socket then waits for the SYN of the other side, which the NATs on this
// side now let through, and answers it with the usual hop limit: a simultaneous
// open (RFC 9293, section 3.5). When the prime ends, it returns
// [context.DeadlineExceeded] or goes on with a full SYN, as a.full says.
func dialPrimed(ctx context.Context, port uint16, a attempt) (net.Conn, error) {
	prime, err := newPunch(port, a.addr)
	if err != nil {
		return nil, err
	}
	defer prime.close()
	if err := prime.setTTL(a.ttl); err != nil {
		return nil, err
	}
	var full *punch
	if a.full {
		if full, err = newPunch(port, a.addr); err != nil {
			return nil, err
		}
		defer full.close()
	}
	if err := prime.start(); err != nil {
		return nil, err
	}
	if err := prime.setTTL(usualTTL); err != nil { // for what follows the SYN
		return nil, err
	}
	conn, err := prime.await(ctx, a.until)
	if errors.Is(err, os.ErrDeadlineExceeded) && prime.answered() {
		// The peer's SYN is here: to give up now would be to refuse it.
		conn, err = prime.await(ctx, time.Now().Add(primeGrace))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return conn, err
	}
	if full == nil {
		return nil, context.DeadlineExceeded
	}
	prime.close()
	if err := full.start(); err != nil {
		return nil, err
	}
	return full.await(ctx, time.Time{})
}

// usualTTL asks the system for its own hop limit.
const usualTTL = -1

// A punch is a bound socket that is not connected yet, or no more.
type punch struct {
	f       *os.File // in the poller
	options punchOptions
}

type punchOptions struct {
	family, level, ttl, minTTL int
	local, remote              unix.Sockaddr
}

func newPunchOptions(port uint16, addr netip.AddrPort) punchOptions {
	if addr.Addr().Is4() {
		return punchOptions{
			family: unix.AF_INET, level: unix.IPPROTO_IP, ttl: unix.IP_TTL, minTTL: unix.IP_MINTTL,
			local:  &unix.SockaddrInet4{Port: int(port)},
			remote: &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()},
		}
	}
	return punchOptions{
		family: unix.AF_INET6, level: unix.IPPROTO_IPV6, ttl: unix.IPV6_UNICAST_HOPS, minTTL: unix.IPV6_MINHOPCOUNT,
		local:  &unix.SockaddrInet6{Port: int(port)},
		remote: &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()},
	}
}

func newPunch(port uint16, addr netip.AddrPort) (*punch, error) {
	o := newPunchOptions(port, addr)
	fd, err := unix.Socket(o.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	for _, so := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{o.level, o.minTTL, primeMinTTL},
	} {
		if err := unix.SetsockoptInt(fd, so.level, so.name, so.value); err != nil {
			unix.Close(fd) //nolint:errcheck // nothing was sent
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, o.local); err != nil {
		unix.Close(fd) //nolint:errcheck // nothing was sent
		return nil, os.NewSyscallError("bind", err)
	}
	return &punch{f: os.NewFile(uintptr(fd), "rdv punch"), options: o}, nil
}

// close closes the socket, if it is open. A connection that await returned has
// a descriptor of its own.
func (p *punch) close() {
	p.f.Close() //nolint:errcheck // may be closed already
}

// control calls f with the descriptor.
func (p *punch) control(f func(fd int) error) error {
	rc, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	return errors.Join(rc.Control(func(fd uintptr) { inner = f(int(fd)) }), inner)
}

func (p *punch) setTTL(ttl int) error {
	return p.control(func(fd int) error {
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, p.options.level, p.options.ttl, ttl))
	})
}

// start sends the SYN.
func (p *punch) start() error {
	return p.control(func(fd int) error {
		if err := unix.Connect(fd, p.options.remote); !errors.Is(err, unix.EINPROGRESS) {
			return os.NewSyscallError("connect", err)
		}
		return nil
	})
}

// await returns the connection once there is one, and
// [os.ErrDeadlineExceeded] at the given time, if it is not zero.
func (p *punch) await(ctx context.Context, until time.Time) (net.Conn, error) {
	if err := p.f.SetWriteDeadline(until); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, p.close)
	defer stop()
	if err := awaitConnect(p.f); err != nil {
		if ctx.Err() != nil {
			return nil, context.Canceled
		}
		return nil, err
	}
	return net.FileConn(p.f)
}

// answered reports whether the other side's SYN has come.
func (p *punch) answered() bool {
	var state uint8
	err := p.control(func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			state = info.State
		}
		return err
	})
	return err == nil && (state == unix.BPF_TCP_SYN_RECV || state == unix.BPF_TCP_ESTABLISHED)
}

// awaitConnect waits until f is connected, or returns why it is not.
func awaitConnect(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = rc.Write(func(fd uintptr) bool {
		soerr, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			result = err
		case soerr != 0:
			result = os.NewSyscallError("connect", unix.Errno(soerr))
		default:
			_, err := unix.Getpeername(int(fd))
			if errors.Is(err, unix.ENOTCONN) {
				return false // still under way
			}
			result = err
		}
		return true
	})
	return errors.Join(err, result)
}
