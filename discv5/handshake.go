package discv5

import (
	"errors"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
	"github.com/muster-p2p/muster/internal/secp"
)

// Reasons why a handshake of a peer is refused. It costs the peer its
// challenge and changes nothing else.
var (
	errNoRecord   = errors.New("handshake without a record, and we have none")
	errWrongID    = errors.New("handshake with the record of another node")
	errSignature  = errors.New("handshake with a wrong signature")
	errEphemeral  = errors.New("handshake with a malformed ephemeral key")
	errUnreadable = errors.New("handshake whose message cannot be decrypted")
)

type jobKind uint8

const (
	jobAccept jobKind = iota // verify a peer's handshake packet
	jobProve                 // compute ours
	jobRecord                // verify a record
)

// A job is curve arithmetic, some hundred microseconds of it, which must not
// hold up packets. It is made by core, run by a worker with nothing of core's
// in hand, and given back.
type job struct {
	kind      jobKind
	at        endpoint
	challenge wire.Challenge
	record    *enr.Record // what we have of the peer; may be nil in jobAccept

	packet  []byte // jobAccept: unmasked; jobRecord: the record
	message []byte // jobAccept: encrypted, part of packet

	reqID     wire.ReqID // jobProve
	recordSeq uint64     // jobProve: what the peer has of us

	// Results.
	keys      wire.Keys
	plaintext []byte      // jobAccept
	fresh     *enr.Record // jobAccept, jobRecord: what came, verified
	signature [wire.SignatureSize]byte
	ephemeral [wire.KeySize]byte
}

// An identity is what a worker needs of the node.
type identity struct {
	key   *enr.PrivateKey
	id    enr.ID
	codec *wire.Codec // the worker's own
	parse func([]byte) (*enr.Record, error)
}

func (j *job) run(me *identity) error {
	switch j.kind {
	case jobAccept:
		return j.accept(me)
	case jobProve:
		return j.prove(me)
	default:
		r, err := me.parse(firstRecord(j.packet))
		j.fresh = r
		return err
	}
}

// prove computes the answer to a challenge.
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-theory.md#step-3-node-a-processes-the-challenge
func (j *job) prove(me *identity) error {
	eph, err := secp.GenerateKey()
	if err != nil {
		return err
	}
	j.ephemeral = eph.Public().Compressed()
	j.keys = wire.DeriveKeys(eph.SharedPoint(j.record.PublicKey()), me.id, j.at.id, &j.challenge)
	j.signature = me.key.Sign(wire.IDProof(&j.challenge, j.ephemeral, j.at.id))
	return nil
}

// accept verifies a peer's answer to our challenge, in the order that lets a
// forger cost us least: record, signature, and only then the key agreement.
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-theory.md#step-4-node-b-receives-handshake-message
func (j *job) accept(me *identity) error {
	h, err := wire.ParseHeader(j.packet)
	if err != nil {
		return err
	}
	record := j.record
	if len(h.Record) > 0 {
		// "If the packet contains a node record, B must first validate it by
		// checking the record's signature." It must also be the sender's own.
		r, err := me.parse(h.Record)
		if err != nil {
			return err
		}
		if r.ID() != j.at.id {
			return errWrongID
		}
		if record == nil || r.Seq() > record.Seq() {
			record, j.fresh = r, r
		}
	}
	if record == nil {
		return errNoRecord
	}
	eph, err := secp.NewPublicKey(h.EphemeralKey)
	if err != nil {
		return errEphemeral
	}
	// "Node B then verifies the id-signature against the identity public key
	// of A's record."
	if !record.PublicKey().Verify(wire.IDProof(&j.challenge, [wire.KeySize]byte(h.EphemeralKey), me.id), h.Signature) {
		return errSignature
	}
	j.keys = wire.DeriveKeys(me.key.SharedPoint(eph), j.at.id, me.id, &j.challenge)
	pt, err := me.codec.Open(wire.NewAEAD(j.keys.Initiator), &h, j.packet, j.message)
	if err != nil {
		return errUnreadable
	}
	j.plaintext = append([]byte(nil), pt...)
	return nil
}
