package pubsub

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/pubsub/wire"
)

// MessageSignaturePolicy says whether messages are signed when published and
// whether those received must be.
// https://github.com/libp2p/specs/blob/master/pubsub/README.md#message-signing
type MessageSignaturePolicy uint8

const (
	policySign MessageSignaturePolicy = 1 << iota
	policyVerify

	// LaxNoSign publishes unsigned messages and accepts both kinds; signatures
	// that are there are verified. It is for networks that change their policy.
	LaxNoSign MessageSignaturePolicy = 0
	// LaxSign publishes signed messages and accepts both kinds; signatures that
	// are there are verified.
	LaxSign = policySign
	// StrictNoSign publishes unsigned messages and refuses signed ones.
	StrictNoSign = policyVerify
	// StrictSign publishes signed messages and refuses unsigned ones.
	StrictSign = policySign | policyVerify
)

// SignPrefix stands before the encoded message in what its author signs.
const SignPrefix = wire.SignPrefix

// mustSign reports whether published messages are signed.
func (p MessageSignaturePolicy) mustSign() bool { return p&policySign != 0 }

// mustVerify reports whether a message must be as the policy has it.
func (p MessageSignaturePolicy) mustVerify() bool { return p&policyVerify != 0 }

func (p MessageSignaturePolicy) String() string {
	switch p {
	case LaxNoSign:
		return "LaxNoSign"
	case LaxSign:
		return "LaxSign"
	case StrictNoSign:
		return "StrictNoSign"
	case StrictSign:
		return "StrictSign"
	default:
		return fmt.Sprintf("MessageSignaturePolicy(%d)", uint8(p))
	}
}

// Why a message was refused: what a tracer is told.
const (
	RejectBlacklstedPeer      = "blacklisted peer"
	RejectBlacklistedSource   = "blacklisted source"
	RejectMissingSignature    = "missing signature"
	RejectUnexpectedSignature = "unexpected signature"
	RejectUnexpectedAuthInfo  = "unexpected auth info"
	RejectInvalidSignature    = "invalid signature"
	RejectValidationQueueFull = "validation queue full"
	RejectValidationThrottled = "validation throttled"
	RejectValidationFailed    = "validation failed"
	RejectValidationIgnored   = "validation ignored"
	RejectSelfOrigin          = "self originated message"
)

// checkPolicy looks at which fields m has and says why it is refused, or
// nothing. Signatures that pass are still to be verified.
//
//	StrictSign    from, an eight-byte seqno and a signature must be there; with
//	              anySeqno a seqno of any length
//	StrictNoSign  signature must be absent; with noAuthor from, seqno and key too
//	lax           anything goes, but a signature needs a from
//
// The specification wants all four absent under StrictNoSign. go-libp2p-pubsub
// sends and accepts from and seqno unless it is told WithNoAuthor, and what it
// sends we accept under the same setting.
//
// anySeqno is for floodsub: js-libp2p's leaves out leading zero bytes, so that
// one seqno in 256 is shorter. In a mesh such a message would cost us the
// favour of those it is forwarded to.
func checkPolicy(p MessageSignaturePolicy, noAuthor, anySeqno bool, m *wire.Message) string {
	switch {
	case p == StrictSign && m.Signature == nil:
		return RejectMissingSignature
	case p == StrictSign && len(m.Seqno) != 8 && (!anySeqno || len(m.Seqno) == 0):
		return RejectInvalidSignature // js and rust refuse it, so it must not go on
	case p == StrictNoSign && m.Signature != nil:
		return RejectUnexpectedSignature
	case p == StrictNoSign && noAuthor && (m.From != nil || m.Seqno != nil || m.Key != nil):
		return RejectUnexpectedAuthInfo
	case m.Signature != nil && len(m.From) == 0:
		return RejectInvalidSignature // nobody's signature
	default:
		return ""
	}
}

var (
	errBadSignature = errors.New("pubsub: invalid signature")
	errKeyMismatch  = errors.New("pubsub: the message's key is not its author's")
	errNoKey        = errors.New("pubsub: no public key for the message's author")
)

// verifyMessage checks that m's signature is by its author. scratch is memory
// for the signed bytes; it is returned, grown if need be, for the next call.
//
// Ed25519 signatures are verified with the standard library, whose rule (the
// encoded R must match, no cofactor) is that of the other implementations: a
// laxer one would let us forward what our neighbours hold against us.
func verifyMessage(m *wire.Message, scratch []byte) ([]byte, error) {
	scratch = m.AppendSigned(scratch[:0])
	if pub := ed25519Key(m.From); pub != nil && (m.Key == nil || bytes.Equal(m.Key, inlinedKey(m.From))) {
		if !ed25519.Verify(pub, scratch, m.Signature) {
			return scratch, errBadSignature
		}
		return scratch, nil
	}
	pub, err := authorKey(m.From, m.Key)
	if err != nil {
		return scratch, err
	}
	if ok, err := pub.Verify(scratch, m.Signature); err != nil || !ok {
		return scratch, errBadSignature
	}
	return scratch, nil
}

// ed25519Key returns the Ed25519 key that a peer id holds, as a view, or nil.
func ed25519Key(id []byte) ed25519.PublicKey {
	// identity multihash of 36 bytes: PublicKey{Type: Ed25519, Data: 32 bytes}
	const prefix = "\x00\x24\x08\x01\x12\x20"
	if len(id) != len(prefix)+ed25519.PublicKeySize || string(id[:len(prefix)]) != prefix {
		return nil
	}
	return ed25519.PublicKey(id[len(prefix):])
}

// authorKey finds the public key of a message's author in the message or in
// the author's peer id.
func authorKey(from, key []byte) (crypto.PubKey, error) {
	id, err := peer.IDFromBytes(from)
	if err != nil {
		return nil, fmt.Errorf("pubsub: author: %w", err)
	}
	if key == nil {
		pub, err := id.ExtractPublicKey()
		if err != nil {
			return nil, errNoKey
		}
		return pub, nil
	}
	pub, err := crypto.UnmarshalPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("pubsub: key: %w", err)
	}
	if !id.MatchesPublicKey(pub) {
		return nil, errKeyMismatch
	}
	return pub, nil
}

// signFields signs f by author's key: it sets f.Signature, and f.Key if the
// author's peer id does not hold the key already. scratch is memory for the
// signed bytes; it is returned, grown if need be.
func signFields(f *wire.Fields, key crypto.PrivKey, author peer.ID, scratch []byte) ([]byte, error) {
	scratch = f.AppendSigned(scratch[:0])
	sig, err := key.Sign(scratch)
	if err != nil {
		return scratch, fmt.Errorf("pubsub: sign: %w", err)
	}
	f.Signature, f.Key = sig, nil
	if inlinedKey([]byte(author)) != nil {
		return scratch, nil
	}
	f.Key, err = crypto.MarshalPublicKey(key.GetPublic())
	if err != nil {
		return scratch, fmt.Errorf("pubsub: sign: %w", err)
	}
	return scratch, nil
}
