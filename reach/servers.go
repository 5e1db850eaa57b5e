package reach

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// A pointHost is by what name and address a point was reached.
type pointHost struct {
	name string     // as given, empty if by address
	addr netip.Addr // of the connection; invalid if that went through a relay
}

// usableServers returns those of the URLs that a point has sent that are fit to
// be asked, in order and once each. An empty host means the point itself.
//
// A point may name any server in the world, but none that only we can reach: no
// address of this machine or of its networks, unless the point is there itself.
func usableServers(urls []string, p pointHost) []string {
	var out []string
	for _, s := range urls {
		if s, ok := usableServer(s, p); ok && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func usableServer(s string, p pointHost) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" || u.User != nil ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", false
	}
	if u.Hostname() == "" {
		host, ok := p.host()
		if !ok {
			return "", false
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		if port := u.Port(); port != "" {
			host += ":" + port
		}
		u.Host = host
		return u.String(), true
	}
	return u.String(), p.mayName(u.Hostname())
}

// host is what stands for an empty host: the name if there is one, as a
// certificate is for a name and the name may have addresses of both families.
func (p pointHost) host() (string, bool) {
	if p.name != "" {
		return p.name, true
	}
	return p.addr.Unmap().WithZone("").String(), p.addr.IsValid()
}

// mayName reports whether a point may name that host.
func (p pointHost) mayName(host string) bool {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return mayNameDomain(host, p)
	}
	if a.Zone() != "" {
		return false
	}
	a, at := a.Unmap(), p.addr.Unmap()
	switch {
	case a.IsLoopback():
		return at.IsLoopback()
	case a.IsPrivate() || sharedSpace.Contains(a):
		return at.IsLoopback() || at.IsPrivate() || sharedSpace.Contains(at)
	default:
		return a.IsGlobalUnicast() && !embedding(a)
	}
}

// sharedSpace is between carriers' NATs and their customers:
// https://www.rfc-editor.org/rfc/rfc6598#section-7
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// embedding reports whether an IPv6 address leads to an IPv4 address by way of
// NAT64 (RFC 6052, RFC 8215) or 6to4 (RFC 3056): it would slip past mayName.
func embedding(a netip.Addr) bool {
	for _, p := range [...]string{"64:ff9b::/96", "64:ff9b:1::/48", "2002::/16"} {
		if netip.MustParsePrefix(p).Contains(a) {
			return true
		}
	}
	return false
}

// mayNameDomain is mayName for what is no address. A name whose last label is a
// number is an address to some resolvers: https://url.spec.whatwg.org/#ends-in-a-number-checker
func mayNameDomain(host string, p pointHost) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case last == "" || unicode.IsDigit(rune(last[0])):
		return false
	case last == "localhost":
		return p.addr.Unmap().IsLoopback()
	default:
		return true
	}
}
