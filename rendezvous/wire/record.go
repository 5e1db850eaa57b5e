package wire

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// An Envelope is a signed envelope, taken apart but not verified. Its fields
// are parts of the bytes it was parsed from.
//
// Spec: https://github.com/libp2p/specs/blob/master/RFC/0002-signed-envelopes.md#wire-format
type Envelope struct {
	PublicKey   []byte // a PublicKey protobuf message
	PayloadType []byte
	Payload     []byte
	Signature   []byte
}

// ParseEnvelope reads an envelope. All four parts must be there.
func ParseEnvelope(b []byte) (e Envelope, err error) {
	err = fields(b, func(num protowire.Number, typ protowire.Type, b []byte) int {
		switch num {
		case 1:
			return readBytes(typ, b, &e.PublicKey)
		case 2:
			return readBytes(typ, b, &e.PayloadType)
		case 3:
			return readBytes(typ, b, &e.Payload)
		case 5:
			return readBytes(typ, b, &e.Signature)
		default:
			return 0
		}
	})
	if err == nil && (e.PublicKey == nil || e.PayloadType == nil || e.Payload == nil || e.Signature == nil) {
		err = malformed("not an envelope")
	}
	return e, err
}

// AppendSigned appends what the envelope's signature is over: domain, payload
// type and payload, each behind its length.
func (e *Envelope) AppendSigned(dst []byte, domain string) []byte {
	dst = append(binary.AppendUvarint(dst, uint64(len(domain))), domain...)
	dst = append(binary.AppendUvarint(dst, uint64(len(e.PayloadType))), e.PayloadType...)
	return append(binary.AppendUvarint(dst, uint64(len(e.Payload))), e.Payload...)
}

// A PeerRecord is the payload of an envelope, or a PeerInfo: who can be
// reached where. ID and Addrs are parts of the bytes it was parsed from.
//
// Spec: https://github.com/libp2p/specs/blob/master/RFC/0003-routing-records.md#address-record-format
type PeerRecord struct {
	ID    []byte
	Seq   uint64 // zero for a PeerInfo
	Addrs [][]byte
}

// ParsePeerRecord reads the payload of an envelope: {id 1, seq 2, repeated
// addresses 3 {multiaddr 1}}. More than maxAddrs addresses are an error.
func ParsePeerRecord(b []byte, maxAddrs int) (r PeerRecord, err error) {
	err = fields(b, func(num protowire.Number, typ protowire.Type, b []byte) int {
		switch num {
		case 1:
			return readBytes(typ, b, &r.ID)
		case 2:
			return readVarint(typ, b, &r.Seq)
		case 3:
			var body []byte
			n := readBytes(typ, b, &body)
			if n < 0 || len(r.Addrs) >= maxAddrs || !r.parseAddr(body) {
				return wrong
			}
			return n
		default:
			return 0
		}
	})
	return r, err
}

func (r *PeerRecord) parseAddr(b []byte) bool {
	var addr []byte
	err := fields(b, func(num protowire.Number, typ protowire.Type, b []byte) int {
		if num == 1 {
			return readBytes(typ, b, &addr)
		}
		return 0
	})
	r.Addrs = append(r.Addrs, addr)
	return err == nil
}

// ParsePeerInfo reads the unsigned PeerInfo of peers of before 2020: {id 1,
// repeated addrs 2}. Bytes with the fields of an envelope are refused. More
// than maxAddrs addresses are an error.
func ParsePeerInfo(b []byte, maxAddrs int) (r PeerRecord, err error) {
	err = fields(b, func(num protowire.Number, typ protowire.Type, b []byte) int {
		switch num {
		case 1:
			return readBytes(typ, b, &r.ID)
		case 2:
			var addr []byte
			n := readBytes(typ, b, &addr)
			if n < 0 || len(r.Addrs) >= maxAddrs {
				return wrong
			}
			r.Addrs = append(r.Addrs, addr)
			return n
		case 3, 5:
			return wrong
		default:
			return 0
		}
	})
	return r, err
}

// AppendPeerInfo appends a PeerInfo.
func AppendPeerInfo(dst []byte, r *PeerRecord) []byte {
	dst = appendBytes(dst, 1, r.ID)
	for _, a := range r.Addrs {
		dst = appendBytes(dst, 2, a)
	}
	return dst
}
