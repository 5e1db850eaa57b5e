package wire

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
)

// A Challenge is an unmasked WHOAREYOU packet: the challenge data of the
// handshake that answers it.
//
//	challenge-data = masking-iv || static-header || authdata
type Challenge [ChallengeSize]byte

// NewChallenge makes the WHOAREYOU packet that answers the packet with this
// nonce. recordSeq is the number of the record we have of its sender, 0 if
// none.
func NewChallenge(iv [16]byte, nonce Nonce, idNonce [16]byte, recordSeq uint64) Challenge {
	b := appendStatic(make([]byte, 0, ChallengeSize), iv, FlagWhoareyou, nonce, whoareyouAuthSize)
	b = append(b, idNonce[:]...)
	b = binary.BigEndian.AppendUint64(b, recordSeq)
	return Challenge(b)
}

// ChallengeOf returns the challenge in a packet that Codec.Unmask has read as
// WHOAREYOU.
func ChallengeOf(packet []byte) Challenge { return Challenge(packet) }

// Keys are the two keys of a session: the initiator of the handshake writes
// with one and reads with the other.
type Keys struct {
	Initiator, Recipient [16]byte
}

const keyAgreement = "discovery v5 key agreement"

// DeriveKeys computes the keys of a session from the shared point of the
// ephemeral key and the recipient's key.
//
//	kdf-info = "discovery v5 key agreement" || node-id-A || node-id-B
//	prk      = HKDF-Extract(secret, challenge-data)
//	key-data = HKDF-Expand(prk, kdf-info)
//
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-theory.md#step-3-node-a-processes-the-challenge
func DeriveKeys(secret [KeySize]byte, initiator, recipient [32]byte, ch *Challenge) Keys {
	info := make([]byte, 0, len(keyAgreement)+64)
	info = append(info, keyAgreement...)
	info = append(info, initiator[:]...)
	info = append(info, recipient[:]...)
	b, err := hkdf.Key(sha256.New, secret[:], ch[:], string(info), 32)
	if err != nil {
		panic("BUG: wire: " + err.Error()) // 32 bytes are never too many
	}
	return Keys{Initiator: [16]byte(b[:16]), Recipient: [16]byte(b[16:])}
}

const identityProof = "discovery v5 identity proof"

// IDProof is the digest that the initiator signs with its identity.
//
//	id-signature-input = "discovery v5 identity proof" || challenge-data || ephemeral-pubkey || node-id-B
func IDProof(ch *Challenge, eph [KeySize]byte, recipient [32]byte) [32]byte {
	b := make([]byte, 0, len(identityProof)+ChallengeSize+KeySize+32)
	b = append(b, identityProof...)
	b = append(b, ch[:]...)
	b = append(b, eph[:]...)
	b = append(b, recipient[:]...)
	return sha256.Sum256(b)
}
