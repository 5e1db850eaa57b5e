package rendezvous

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// Bounds of a record. rust-libp2p drops a whole answer for one record that it
// cannot use, so a point must not let such a record in.
const (
	// MaxRecordSize holds any record within the other two bounds, with an RSA
	// key and signature of 8192 bits, and fits the smallest answer.
	MaxRecordSize = 8 << 10

	// MaxRecordAddrs and MaxRecordAddrBytes are what other servers accept:
	// a record is where a peer can be reached now, not where it has ever been.
	MaxRecordAddrs     = 64
	MaxRecordAddrBytes = 2048
)

// errBadRecord is wrapped by all errors of records that prove nothing.
var errBadRecord = errors.New("rendezvous: invalid peer record")

// errOthersRecord says that a record is in order, but another peer's.
var errOthersRecord = errors.New("rendezvous: the record is another peer's")

func badRecord(what string) error { return fmt.Errorf("%w: %s", errBadRecord, what) }

// rustPayloadType and rustDomain are what rust-libp2p signs records with, and
// all that it verifies. Other implementations verify only the spec's.
const (
	rustPayloadType = "/libp2p/routing-state-record"
	rustDomain      = "libp2p-routing-state"
)

// isRustRecord reports whether an admitted record is signed as rust-libp2p
// does.
func isRustRecord(record []byte) bool {
	if !bytes.Contains(record, []byte(rustPayloadType)) {
		return false // nearly all: there is nothing to take apart
	}
	env, err := wire.ParseEnvelope(record)
	return err == nil && string(env.PayloadType) == rustPayloadType
}

// A signature domain belongs to a payload type: a signature for one use is
// worth nothing in another.
//
// Spec: https://github.com/libp2p/specs/blob/master/RFC/0003-routing-records.md
func signatureDomain(payloadType []byte) string {
	switch string(payloadType) {
	case "\x03\x01": // multicodec libp2p-peer-record
		return "libp2p-peer-record"
	case rustPayloadType:
		return rustDomain
	default:
		return ""
	}
}

// verifyRecord returns what the signed peer record b says, if it was signed by
// the peer that it is about. Addresses are not looked at. The result refers to
// b. Errors wrap errBadRecord.
func verifyRecord(b []byte) (peer.ID, wire.PeerRecord, error) {
	if len(b) > MaxRecordSize {
		return "", wire.PeerRecord{}, badRecord("too long")
	}
	env, err := wire.ParseEnvelope(b)
	if err != nil {
		return "", wire.PeerRecord{}, badRecord("not a signed envelope")
	}
	domain := signatureDomain(env.PayloadType)
	if domain == "" {
		return "", wire.PeerRecord{}, badRecord("unknown payload type")
	}
	rec, err := wire.ParsePeerRecord(env.Payload, MaxRecordAddrs)
	if err != nil {
		return "", wire.PeerRecord{}, badRecord("malformed, or too many addresses")
	}
	key, err := crypto.UnmarshalPublicKey(env.PublicKey)
	if err != nil {
		return "", wire.PeerRecord{}, badRecord("unusable public key")
	}
	id, err := peer.IDFromPublicKey(key)
	if err != nil || string(rec.ID) != string(id) {
		return "", wire.PeerRecord{}, badRecord("not signed by the peer it is about")
	}
	ok, err := key.Verify(env.AppendSigned(nil, domain), env.Signature)
	if err != nil || !ok {
		return "", wire.PeerRecord{}, badRecord("wrong signature")
	}
	return id, rec, nil
}

// checkAddrs holds a record to the bounds and to addresses that every peer can
// parse.
func checkAddrs(addrs [][]byte) error {
	if len(addrs) == 0 {
		return badRecord("no addresses")
	}
	size := 0
	for _, b := range addrs {
		size += len(b)
	}
	if len(addrs) > MaxRecordAddrs || size > MaxRecordAddrBytes {
		return badRecord("too many addresses")
	}
	for _, b := range addrs {
		if _, err := ma.NewMultiaddrBytes(b); err != nil {
			return badRecord("address that is no multiaddr")
		}
	}
	return nil
}

// parseAddrs returns those of addrs that parse.
func parseAddrs(addrs [][]byte) []ma.Multiaddr {
	out := make([]ma.Multiaddr, 0, len(addrs))
	for _, b := range addrs {
		if a, err := ma.NewMultiaddrBytes(b); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// addrsOf returns those of addrs that parse, as peer.AddrInfo has them: without
// the peer's own ID at the end. Those that end in another's lead elsewhere.
func addrsOf(id peer.ID, addrs [][]byte) []ma.Multiaddr {
	out := make([]ma.Multiaddr, 0, len(addrs))
	for _, a := range parseAddrs(addrs) {
		transport, last := peer.SplitAddr(a)
		if len(transport) > 0 && (last == "" || last == id) {
			out = append(out, transport)
		}
	}
	return out
}

// admitRecord checks a record that the peer from sends about itself.
func admitRecord(b []byte, from peer.ID) (seq uint64, err error) {
	id, rec, err := verifyRecord(b)
	if err != nil {
		return 0, err
	}
	if err := checkAddrs(rec.Addrs); err != nil {
		return 0, err
	}
	if id != from {
		return 0, errOthersRecord
	}
	return rec.Seq, nil
}

// admitPeerInfo checks the unsigned record of an older peer. An id that is
// left out is the sender's; the stored form always has it.
func admitPeerInfo(b []byte, from peer.ID) ([]byte, error) {
	if len(b) > MaxRecordSize {
		return nil, badRecord("too long")
	}
	info, err := wire.ParsePeerInfo(b, MaxRecordAddrs)
	if err != nil {
		return nil, badRecord("not a PeerInfo")
	}
	if err := checkAddrs(info.Addrs); err != nil {
		return nil, err
	}
	if len(info.ID) > 0 && string(info.ID) != string(from) {
		return nil, errOthersRecord
	}
	info.ID = []byte(from)
	return wire.AppendPeerInfo(nil, &info), nil
}
