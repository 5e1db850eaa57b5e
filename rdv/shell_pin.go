package rdv

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"time"

	"github.com/muster-p2p/muster/rdv/wire"
)

// A pin is how servers of one lobby know each other: they all have the same
// key, made of the directory's secret, and TLS 1.3 proves it both ways. Who
// reads along learns nothing, and what is recorded cannot be played again.
//
// The gate is a header field of the request before that. It only keeps
// strangers from making us do the arithmetic of a handshake.
type pin struct {
	tls  *tls.Config // both of a client and of a server
	gate string
	self [wire.SelfLen]byte // names this server while it runs
}

var errNotOurs = errors.New("rdv: peer is not a server of this lobby")

func newPin(secret [32]byte) (*pin, error) {
	seed, err := hkdf.Key(sha256.New, secret[:], nil, "muster rdv hand-over: key", ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	gate, err := hkdf.Key(sha256.New, secret[:], nil, "muster rdv hand-over: gate", sha256.Size)
	if err != nil {
		return nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	// Nobody looks at the certificate but for its key: clocks need not agree.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<33, 0)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("rdv: certificate of the lobby: %w", err)
	}
	p := &pin{gate: "Muster " + hex.EncodeToString(gate)}
	rand.Read(p.self[:]) // never fails, by its contract
	p.tls = &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // names mean nothing here, the key is what is checked
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) != 1 {
				return errNotOurs
			}
			theirs, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
			ours, _ := key.Public().(ed25519.PublicKey)
			if !ok || !bytes.Equal(theirs, ours) {
				return errNotOurs
			}
			return nil
		},
	}
	return p, nil
}

// asks reports whether a request is one of another server of the lobby.
func (p *pin) asks(r *http.Request) bool {
	return p != nil && r.Method == http.MethodGet &&
		hasToken(r.Header.Values("Upgrade"), wire.HandOverProtocol) &&
		subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(p.gate)) == 1
}
