package link

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"

	"github.com/muster-p2p/muster/link/wire"
)

// Labels of the exporters (RFC 8446, section 7.5) that a path is asked for: what
// binds it to a session, and what the session's secret is, if it is its first.
const (
	labelPath    = "EXPORTER-muster-link-path"
	labelSession = "EXPORTER-muster-link-session"
	exporterLen  = 32
)

// A secret is known to the two ends of a session alone: it comes out of the
// handshake of their first path.
type secret [exporterLen]byte

func (s secret) derive(label string) []byte {
	mac := hmac.New(sha256.New, s[:])
	mac.Write([]byte(label))
	return mac.Sum(nil)
}

// session is the name of the session.
func (s secret) session() [wire.SessionLen]byte {
	return [wire.SessionLen]byte(s.derive("session"))
}

// proof shows that the dialer, or the acceptor, knows the secret, on the path
// with this binding and on no other.
func (s secret) proof(dialer bool, binding [exporterLen]byte) [wire.ProofLen]byte {
	role := "accept "
	if dialer {
		role = "dial "
	}
	return [wire.ProofLen]byte(s.derive(role + string(binding[:])))
}

// proves reports whether h is a proof of the dialer, or of the acceptor.
func (s secret) proves(h wire.Hello, dialer bool, binding [exporterLen]byte) bool {
	want, session := s.proof(dialer, binding), s.session()
	return hmac.Equal(h.Proof[:], want[:]) && hmac.Equal(h.Session[:], session[:])
}

// resumeToken is where the two ends meet again when no path is left.
func (s secret) resumeToken() string { return token(s.derive("resume")) }

// meetToken is where they meet for the nth attempt at a direct path.
func (s secret) meetToken(n uint32) string {
	return token(s.derive("meet " + string(binary.BigEndian.AppendUint32(nil, n))))
}

// token makes 128 bits a token that every server takes.
func token(b []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:16]))
}
