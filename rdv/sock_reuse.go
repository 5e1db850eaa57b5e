package rdv

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/libp2p/go-reuseport"
)

// serverDial4 is how long a server with addresses of both families is tried
// over IPv4 alone.
const serverDial4 = 3 * time.Second

// A socket is the one port that a client uses for everything: to talk to the
// server, to listen, and to dial the peer, so that the NATs on the way map all
// of it alike.
type socket struct {
	ln   *net.TCPListener // nil if ports cannot be shared here, or none is wanted
	port uint16           // zero with a nil ln
}

// listenSocket opens a socket on a port that the system chooses. Where ports
// cannot be shared it returns one that only dials.
func listenSocket(ctx context.Context) (*socket, error) {
	if !reuseport.Available() {
		return &socket{}, nil
	}
	lc := net.ListenConfig{Control: peerControl}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", ":0")
	if err != nil {
		return nil, err
	}
	return &socket{ln: ln.(*net.TCPListener), port: AddrPortFrom(ln.Addr()).Port()}, nil
}

func (s *socket) close() error {
	if s.ln == nil {
		return nil
	}
	err := s.ln.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// dialer dials from the port of the socket, if it has one.
func (s *socket) dialer() *net.Dialer {
	d := &net.Dialer{}
	d.SetMultipathTCP(false)
	if s.port != 0 {
		d.Control = reuseport.Control
		d.LocalAddr = &net.TCPAddr{Port: int(s.port)}
	}
	return d
}

// dial makes one attempt.
func (s *socket) dial(ctx context.Context, a attempt) (net.Conn, error) {
	if a.ttl != 0 {
		return dialPrimed(ctx, s.port, a)
	}
	network := "tcp6"
	if a.addr.Addr().Is4() {
		network = "tcp4"
	}
	d := s.dialer()
	d.Control = peerControl
	return d.DialContext(ctx, network, a.addr.String())
}

// peerControl prepares a socket for connections with the peer: it shares its
// port, and ignores primes.
func peerControl(network, address string, c syscall.RawConn) error {
	return errors.Join(reuseport.Control(network, address, c), ignorePrimes(network, c))
}

// dialServer connects to the server at host:port: over IPv4 if that works, as
// the address that it observes is then one that a peer behind IPv4 can use.
func (s *socket) dialServer(ctx context.Context, keepAlive net.KeepAliveConfig, host, port string) (net.Conn, error) {
	d := s.dialer()
	d.KeepAliveConfig = keepAlive
	addr := net.JoinHostPort(host, port)
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Unmap().Is4() {
			return d.DialContext(ctx, "tcp4", net.JoinHostPort(ip.Unmap().String(), port))
		}
		return d.DialContext(ctx, "tcp6", addr)
	}
	ctx4, cancel := context.WithTimeout(ctx, serverDial4)
	defer cancel()
	conn, err := d.DialContext(ctx4, "tcp4", addr)
	if err == nil {
		return conn, nil
	}
	conn, err6 := d.DialContext(ctx, "tcp6", addr)
	if err6 == nil {
		return conn, nil
	}
	return nil, errors.Join(err, err6)
}

// outcomeOf says how an attempt failed.
func outcomeOf(err error) outcome {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, syscall.ETIMEDOUT):
		return outcomeExpired
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EADDRINUSE):
		return outcomeTaken
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, syscall.EINVAL),
		errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return outcomeUnreachable
	default:
		// Refused, reset, or an ICMP error from on the way.
		return outcomeRefused
	}
}

// localNetwork looks at the interfaces. via is the local address of the
// connection to the server.
func localNetwork(via netip.AddrPort) network {
	var n network
	if via.IsValid() {
		n.preferred = append(n.preferred, via.Addr())
	}
	for _, probe := range []string{"192.0.2.1", "2001:db8::1"} {
		// A UDP socket is routed when it is connected; nothing is sent.
		if c, err := net.Dial("udp", net.JoinHostPort(probe, strconv.Itoa(minPort))); err == nil {
			n.preferred = append(n.preferred, AddrPortFrom(c.LocalAddr()).Addr())
			c.Close() //nolint:errcheck // nothing was sent
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return n
	}
	for _, a := range addrs {
		ipn, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(ipn.IP)
		ones, bits := ipn.Mask.Size()
		ip = ip.Unmap()
		if !ok || bits == 0 || ip.BitLen() != bits {
			continue
		}
		n.addrs = append(n.addrs, netip.PrefixFrom(ip, ones))
	}
	return n
}
