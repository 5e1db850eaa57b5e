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

// dialPrimed connects from port to addr with a first SYN that makes only ttl
// hops. The socket then waits for the SYN of the other side, which the NATs on
// this side now let through, and answers it with the usual hop limit: a
// simultaneous open (RFC 9293, section 3.5).
func dialPrimed(ctx context.Context, port uint16, addr netip.AddrPort, ttl int) (net.Conn, error) {
	fd, err := startPrime(port, addr, ttl)
	if err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	f := os.NewFile(uintptr(fd), "rdv prime") // non-blocking: joins the poller
	defer f.Close()                           //nolint:errcheck // FileConn has its own descriptor
	deadline, ok := ctx.Deadline()
	if ok {
		if err := f.SetWriteDeadline(deadline); err != nil {
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() {
		f.SetWriteDeadline(time.Unix(1, 0)) //nolint:errcheck // the file may be closed by now
	})
	defer stop()
	if err := awaitConnect(f); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, context.DeadlineExceeded
		}
		return nil, os.NewSyscallError("connect", err)
	}
	return net.FileConn(f)
}

// startPrime returns a socket whose low SYN has left.
func startPrime(port uint16, addr netip.AddrPort, ttl int) (fd int, err error) {
	p := primeOptions(port, addr)
	fd, err = unix.Socket(p.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd) //nolint:errcheck // nothing was sent
		}
	}()
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{p.level, p.minTTL, primeMinTTL},
		{p.level, p.ttl, ttl},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return -1, err
		}
	}
	if err := unix.Bind(fd, p.local); err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, p.remote); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return -1, err
	}
	// From here on, with all the hops it takes.
	return fd, unix.SetsockoptInt(fd, p.level, p.ttl, -1)
}

type primeOpts struct {
	family, level, ttl, minTTL int
	local, remote              unix.Sockaddr
}

func primeOptions(port uint16, addr netip.AddrPort) primeOpts {
	if addr.Addr().Is4() {
		return primeOpts{
			family: unix.AF_INET, level: unix.IPPROTO_IP, ttl: unix.IP_TTL, minTTL: unix.IP_MINTTL,
			local:  &unix.SockaddrInet4{Port: int(port)},
			remote: &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()},
		}
	}
	return primeOpts{
		family: unix.AF_INET6, level: unix.IPPROTO_IPV6, ttl: unix.IPV6_UNICAST_HOPS, minTTL: unix.IPV6_MINHOPCOUNT,
		local:  &unix.SockaddrInet6{Port: int(port)},
		remote: &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()},
	}
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
			result = unix.Errno(soerr)
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
