package rendezvous

import (
	"errors"
	"net/netip"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// Limits bound what a registry keeps. Registering again what is registered is
// exempt from all of them, and what has expired never counts. For each field
// zero means its default and a negative number no limit.
type Limits struct {
	// PerPeer bounds a peer's registrations in each protocol. Default 1000, as
	// the spec recommends; rust-libp2p allows 32.
	PerPeer int

	// PerSource bounds the peers with registrations that come from one IPv4
	// address or one IPv6 /64. Default 256: a busy NAT. The machine itself,
	// 127.0.0.1 and ::1, and peers whose address is not known (they come
	// through a relay) are not counted.
	PerSource int

	// PerNet is the same for an IPv4 /24 and an IPv6 /48. Default 1024.
	PerNet int

	// PerNamespace bounds the registrations of one name. Default 262144.
	PerNamespace int

	// Total bounds all registrations. Default 1048576, which take up to
	// 600 MB with records of 200 bytes.
	Total int

	// Bytes bounds the memory for registrations, counted as their names and
	// records and 320 bytes each. Default 1 GiB.
	Bytes int64
}

// Default limits.
const (
	DefaultPerPeer      = 1000
	DefaultPerSource    = 256
	DefaultPerNet       = 1024
	DefaultPerNamespace = 1 << 18
	DefaultTotal        = 1 << 20
	DefaultBytes        = 1 << 30
)

// RustLimits are rust-libp2p's: 32 registrations for a peer, 10000 in all.
func RustLimits() Limits { return Limits{PerPeer: 32, Total: 10_000} }

func (l Limits) withDefaults() Limits {
	const none = int(^uint(0) >> 1)
	set := func(v *int, def int) {
		if *v == 0 {
			*v = def
		} else if *v < 0 {
			*v = none
		}
	}
	set(&l.PerPeer, DefaultPerPeer)
	set(&l.PerSource, DefaultPerSource)
	set(&l.PerNet, DefaultPerNet)
	set(&l.PerNamespace, DefaultPerNamespace)
	set(&l.Total, DefaultTotal)
	if l.Bytes == 0 {
		l.Bytes = DefaultBytes
	} else if l.Bytes < 0 {
		l.Bytes = 1<<63 - 1
	}
	return l
}

// Why a registry refuses a registration.
var (
	errStaleRecord   = errors.New("rendezvous: the record is older than the registered one")
	errPeerFull      = errors.New("rendezvous: the peer has too many registrations")
	errSourceFull    = errors.New("rendezvous: too many peers from this address")
	errNamespaceFull = errors.New("rendezvous: the namespace is full")
	errFull          = errors.New("rendezvous: the point is full")
)

// What a [Client] says of a namespace or lifetime that no point would take.
var (
	ErrInvalidNamespace = errors.New("rendezvous: invalid namespace")
	ErrInvalidTTL       = errors.New("rendezvous: invalid ttl")
)

// ErrUndecided is what [Config.Access] returns if it cannot decide now, such as
// when who decides is away. The request is refused with E_UNAVAILABLE.
var ErrUndecided = errors.New("rendezvous: access cannot be decided now")

// Why a point refuses a request before the registry sees it.
var (
	errCookie = errors.New("rendezvous: invalid cookie")
	errDenied = errors.New("rendezvous: not authorized")
	errBusy   = errors.New("rendezvous: overloaded")
	errRate   = errors.New("rendezvous: too many requests")
)

// statusOf maps errors to statuses; it is the one place that does. The spec
// wants 400 for what may be tried again later, 200 for what may not.
func statusOf(err error) wire.Status {
	switch {
	case err == nil:
		return wire.OK
	case errors.Is(err, ErrInvalidNamespace):
		return wire.InvalidNamespace
	case errors.Is(err, errBadRecord), errors.Is(err, errStaleRecord):
		return wire.InvalidSignedRecord
	case errors.Is(err, ErrInvalidTTL):
		return wire.InvalidTTL
	case errors.Is(err, errCookie):
		return wire.InvalidCookie
	case errors.Is(err, errOthersRecord), errors.Is(err, errDenied), errors.Is(err, errPeerFull):
		return wire.NotAuthorized
	case errors.Is(err, errSourceFull), errors.Is(err, errNamespaceFull), errors.Is(err, errFull),
		errors.Is(err, errBusy), errors.Is(err, errRate), errors.Is(err, ErrUndecided), errors.Is(err, ErrUnavailable):
		return wire.Unavailable
	default:
		return wire.InternalError
	}
}

// sourceOf returns the address that limits per source count a under: a whole
// IPv4 address, the /64 of an IPv6 one. It is invalid for the machine itself.
//
// 127.0.0.1 and ::1 are what a local client or a tunnel's end comes from; a
// limit there would bound all of them as one. Other loopback addresses count.
func sourceOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a == netip.IPv6Loopback() || a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		return netip.Addr{}
	}
	if a.Is6() {
		const site = 64
		return netip.PrefixFrom(a, site).Masked().Addr()
	}
	return a
}

// netOf returns the network that PerNet counts a source under.
func netOf(source netip.Addr) netip.Prefix {
	const net4, net6 = 24, 48
	bits := net6
	if source.Is4() {
		bits = net4
	}
	return netip.PrefixFrom(source, bits).Masked()
}
