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
	known func([]byte) *enr.Record // if these bytes have been verified
	learn func(*enr.Record)        // they have now
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
// forger cost us least: whose record it is, signatures, and only then the key
// agreement.
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-theory.md#step-4-node-b-receives-handshake-message
func (j *job) accept(me *identity) error {
	h, err := wire.ParseHeader(j.packet)
	if err != nil {
		return err
	}
	if len(h.EphemeralKey) != wire.KeySize {
		return errEphemeral
	}
	if err := j.authenticate(me, &h); err != nil {
		return err
	}
	secret, err := me.key.SharedPointWith(h.EphemeralKey)
	if err != nil {
		return errEphemeral
	}
	j.keys = wire.DeriveKeys(secret, j.at.id, me.id, &j.challenge)
	pt, err := me.codec.Open(wire.NewAEAD(j.keys.Initiator), &h, j.packet, j.message)
	if err != nil {
		return errUnreadable
	}
	j.plaintext = append([]byte(nil), pt...)
	return nil
}

// authenticate verifies the record, if one came, and the id-signature: "Node B
// then verifies the id-signature against the identity public key of A's
// record."
func (j *job) authenticate(me *identity, h *wire.Header) error {
	proof := enr.Proof{
		Digest:    wire.IDProof(&j.challenge, [wire.KeySize]byte(h.EphemeralKey), me.id),
		Signature: h.Signature,
	}
	record, came := j.record, (*enr.Record)(nil)
	if len(h.Record) > 0 {
		// "If the packet contains a node record, B must first validate it by
		// checking the record's signature." It must also be the sender's own.
		if came = me.known(h.Record); came == nil {
			r, err := enr.ParseProven(h.Record, j.at.id, proof)
			switch {
			case errors.Is(err, enr.ErrWrongID):
				return errWrongID
			case err != nil:
				return err
			}
			me.learn(r)
			j.newer(r)
			return nil
		}
		if came.ID() != j.at.id {
			return errWrongID
		}
		record = came
	}
	if record == nil {
		return errNoRecord
	}
	if !record.PublicKey().Verify(proof.Digest, proof.Signature) {
		return errSignature
	}
	if came != nil {
		j.newer(came)
	}
	return nil
}

// newer keeps a record that came unless we have one as new.
func (j *job) newer(r *enr.Record) {
	if j.record == nil || r.Seq() > j.record.Seq() {
		j.fresh = r
	}
}
