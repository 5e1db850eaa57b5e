package rdv

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What [Server.Access] returns to have a request answered 401, 429 or 503. All
// may be wrapped. ErrUndecided says that it could not be decided, such as when
// who decides is away: it refuses, and is not taken for a wrong guess.
var (
	ErrUnauthorized    = errors.New("rdv: unauthorized")
	ErrTooManyRequests = errors.New("rdv: too many requests")
	ErrUndecided       = errors.New("rdv: access cannot be decided now")
)

// undecidedWait is when a client may ask again after ErrUndecided.
const undecidedWait = 5 * time.Second

// checkAccess asks the hook, unless the source has been refused too often. The
// client is not told more than the status.
func (s *Server) checkAccess(r *http.Request, source netip.Addr) *refusal {
	if s.Access == nil {
		return nil
	}
	now := time.Now()
	s.mu.Lock()
	wait, blocked := s.guesses.blocked(now, source)
	s.mu.Unlock()
	if blocked {
		no := refused(http.StatusTooManyRequests, "refused too often")
		no.header = retryAfter(wait)
		return no
	}
	err := s.Access(r)
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrUndecided) {
		no := refused(http.StatusServiceUnavailable, "undecided")
		no.header = retryAfter(undecidedWait)
		return no
	}
	s.mu.Lock()
	s.guesses.failed(now, source)
	s.mu.Unlock()
	switch {
	case errors.Is(err, ErrUnauthorized):
		no := refused(http.StatusUnauthorized, "unauthorized")
		no.header = http.Header{"Www-Authenticate": {"Bearer"}} // RFC 6750, section 3
		return no
	case errors.Is(err, ErrTooManyRequests):
		no := refused(http.StatusTooManyRequests, "too many requests")
		no.header = retryAfter(refusalWindow)
		return no
	default:
		return refused(http.StatusForbidden, "forbidden")
	}
}

// BearerTokens returns a [Server.Access] that lets in who presents one of the
// tokens as "Authorization: Bearer <token>" (RFC 6750, section 2.1). Only
// hashes of the tokens are kept and compared, so that the time an answer takes
// tells nothing of them. An empty list lets nobody in.
func BearerTokens(tokens ...string) func(*http.Request) error {
	known := make(map[[sha256.Size]byte]struct{}, len(tokens))
	for _, t := range tokens {
		if t != "" {
			known[sha256.Sum256([]byte(t))] = struct{}{}
		}
	}
	return func(r *http.Request) error {
		scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") {
			return fmt.Errorf("%w: no bearer token", ErrUnauthorized)
		}
		if _, ok := known[sha256.Sum256([]byte(strings.TrimSpace(token)))]; !ok {
			return fmt.Errorf("%w: unknown bearer token", ErrUnauthorized)
		}
		return nil
	}
}

// TrustedProxies returns a [Server.ObservedAddrFunc] for a server behind
// reverse proxies, whose addresses are in the given prefixes. From these,
// X-Forwarded-For is believed, from its end up to the first address that is
// not a proxy's; headers from anyone else are ignored. The port is the entry's
// own ("203.0.113.7:4711"), else that of X-Forwarded-Port, else zero: a client
// whose port is not known can still be relayed, and reached at the addresses
// that it names.
//
// It returns an error if a proxy says nothing of use, rather than take the
// proxy for the client.
func TrustedProxies(prefixes ...netip.Prefix) func(*http.Request) (netip.AddrPort, error) {
	trusted := func(ip netip.Addr) bool {
		return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	return func(r *http.Request) (netip.AddrPort, error) {
		remote, err := remoteAddr(r)
		if err != nil || !trusted(remote.Addr()) {
			return remote, err
		}
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for i, hop := range slices.Backward(hops) {
			a, err := parseHop(strings.Trim(hop, " \t"))
			if err != nil {
				return netip.AddrPort{}, err
			}
			if trusted(a.Addr()) && i > 0 {
				continue
			}
			if a.Port() == 0 && i == len(hops)-1 {
				return netip.AddrPortFrom(a.Addr(), forwardedPort(r)), nil
			}
			return a, nil
		}
		return netip.AddrPort{}, errHop
	}
}

var errHop = errors.New("rdv: X-Forwarded-For holds no address")

// parseHop parses an address with or without a port. IPv6 may be in brackets.
func parseHop(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()), nil
	}
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return netip.AddrPort{}, errHop
	}
	return netip.AddrPortFrom(ip.Unmap().WithZone(""), 0), nil
}

// forwardedPort is the client's port as the proxy says it, or zero. Many
// proxies mean their own port by this header: then it is a well-known one,
// which no client has.
func forwardedPort(r *http.Request) uint16 {
	const firstClientPort = 1024
	p, err := strconv.ParseUint(r.Header.Get("X-Forwarded-Port"), 10, 16)
	if err != nil || p < firstClientPort {
		return 0
	}
	return uint16(p)
}

// remoteAddr is the address at the other end of the connection.
func remoteAddr(r *http.Request) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("rdv: parse remote address: %w", err)
	}
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()), nil
}
