// Package wire is the wire format of Node Discovery v5.1: bytes to values and
// back. It has no clock, no socket and no dice; nonces, vectors and keys are
// arguments.
//
// Every packet is one UDP datagram of 63 to 1280 bytes:
//
//	packet        = masking-iv(16) || masked-header || message
//	masked-header = AES-128-CTR(key = dest-id[:16], iv = masking-iv, header)
//	header        = static-header || authdata
//	static-header = "discv5" || version(2) || flag(1) || nonce(12) || authdata-size(2)
//	message       = AES-128-GCM(key, nonce, message-type || message-data,
//	                            ad = masking-iv || header)
//
//	flag  packet     authdata
//	0     message    src-id(32)
//	1     WHOAREYOU  id-nonce(16) || enr-seq(8); the message is empty
//	2     handshake  src-id(32) || 64 || 33 || id-signature(64) || eph-pubkey(33) || [record]
//
// https://github.com/ethereum/devp2p/blob/master/discv5/discv5-wire.md
//
// [Codec] does packets, [Message] the messages inside, and [DeriveKeys] and
// [IDProof] the computations of the handshake.
package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// Sizes in bytes. "The maximum size of any packet is 1280 bytes." "The
// minimum size of any Discovery v5 packet is 63 bytes. Implementations should
// reject packets smaller than this size."
const (
	MinPacket = 63
	MaxPacket = 1280

	ivSize     = 16
	staticSize = 23
	headerSize = ivSize + staticSize
	tagSize    = 16

	messageAuthSize   = 32
	whoareyouAuthSize = 24
	handshakeAuthSize = 34 + SignatureSize + KeySize // without a record

	SignatureSize = 64
	KeySize       = 33 // compressed public key
	maxRecord     = 300

	// ChallengeSize is the size of a whole WHOAREYOU packet, and so of the
	// challenge data that a handshake is bound to.
	ChallengeSize = headerSize + whoareyouAuthSize

	// MinMessagePacket is the smallest packet that can hold a message.
	MinMessagePacket = headerSize + messageAuthSize + tagSize

	// MaxPlaintext is the largest message that fits an ordinary packet, and
	// MaxHandshakePlaintext one that fits a handshake packet together with
	// the largest record.
	MaxPlaintext          = MaxPacket - MinMessagePacket
	MaxHandshakePlaintext = MaxPacket - headerSize - handshakeAuthSize - maxRecord - tagSize
)

const version = 1

var protocolID = [6]byte{'d', 'i', 's', 'c', 'v', '5'}

// A Flag is the kind of a packet.
type Flag uint8

// The kinds of packet.
const (
	FlagMessage   Flag = 0
	FlagWhoareyou Flag = 1
	FlagHandshake Flag = 2
)

// String returns the specification's name of the kind.
func (f Flag) String() string {
	switch f {
	case FlagMessage:
		return "message"
	case FlagWhoareyou:
		return "WHOAREYOU"
	case FlagHandshake:
		return "handshake"
	default:
		return "unknown"
	}
}

// A Nonce is unique to a packet. In WHOAREYOU it is the nonce of the packet
// that is answered.
type Nonce [12]byte

// Reasons to drop a packet. They come unwrapped, so that dropping costs
// nothing.
var (
	ErrSize     = errors.New("wire: packet too short or too long")
	ErrProtocol = errors.New("wire: not a discv5 packet for this node")
	ErrHeader   = errors.New("wire: malformed packet header")
	ErrDecrypt  = errors.New("wire: message cannot be decrypted")
	ErrTooLarge = errors.New("wire: message does not fit a packet")
)

// A Header is the unmasked header of a packet. Signature, EphemeralKey and
// Record alias the packet.
type Header struct {
	Flag  Flag
	Nonce Nonce
	Src   [32]byte // sender: message and handshake packets

	IDNonce   [16]byte // WHOAREYOU only
	RecordSeq uint64   // WHOAREYOU only: what the sender has of our record

	Signature    []byte // handshake only
	EphemeralKey []byte // handshake only, compressed
	Record       []byte // handshake only, may be empty
}

// NewMask returns the cipher that masks headers for the node dest. Making one
// takes as long as masking a header: keep those of busy peers.
func NewMask(dest [32]byte) cipher.Block {
	block, err := aes.NewCipher(dest[:16])
	if err != nil {
		panic("BUG: wire: " + err.Error())
	}
	return block
}

// NewAEAD returns the cipher of one session key.
func NewAEAD(key [16]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("BUG: wire: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("BUG: wire: " + err.Error())
	}
	return aead
}

// A Codec reads and writes the packets of one node. It holds only scratch
// space, which saves an allocation for each packet; it is not safe for
// concurrent use.
type Codec struct {
	id    [32]byte
	own   cipher.Block
	ctr   [16]byte
	key   [16]byte
	nonce Nonce
	plain [MaxPacket]byte
}

// NewCodec returns the codec of the node id.
func NewCodec(id [32]byte) *Codec { return &Codec{id: id, own: NewMask(id)} }

// Unmask reads the header of packet, which it unmasks in place, and returns
// the encrypted message, which aliases packet. What the packet holds after an
// error is unspecified.
//
// "Implementations should not respond to packets with mismatching
// protocol-id": such packets are ErrProtocol.
func (c *Codec) Unmask(packet []byte, h *Header) (message []byte, err error) {
	if len(packet) < MinPacket || len(packet) > MaxPacket {
		return nil, ErrSize
	}
	copy(c.ctr[:], packet)
	// Two blocks cover the static header; the shortest packet has both.
	c.xor(c.own, packet[ivSize:ivSize+32])
	s := packet[ivSize:headerSize]
	if [6]byte(s) != protocolID || binary.BigEndian.Uint16(s[6:]) != version {
		return nil, ErrProtocol
	}
	end := headerSize + int(binary.BigEndian.Uint16(s[21:]))
	if end < ivSize+32 || end > len(packet) {
		return nil, ErrHeader
	}
	c.xor(c.own, packet[ivSize+32:end])
	return packet[end:], h.parse(packet, end)
}

// ParseHeader reads the header of a packet that was unmasked before.
func ParseHeader(packet []byte) (h Header, err error) {
	if len(packet) < MinPacket || len(packet) > MaxPacket {
		return h, ErrSize
	}
	end := headerSize + int(binary.BigEndian.Uint16(packet[headerSize-2:]))
	if end > len(packet) {
		return h, ErrHeader
	}
	err = h.parse(packet, end)
	return h, err
}

func (h *Header) parse(packet []byte, end int) error {
	h.Flag = Flag(packet[ivSize+8])
	h.Nonce = Nonce(packet[ivSize+9:])
	return h.parseAuth(packet[headerSize:end], packet[end:])
}

func (h *Header) parseAuth(auth, message []byte) error {
	h.Signature, h.EphemeralKey, h.Record = nil, nil, nil
	switch h.Flag {
	case FlagMessage:
		if len(auth) != messageAuthSize || len(message) < tagSize {
			return ErrHeader
		}
		h.Src = [32]byte(auth)
	case FlagWhoareyou:
		// "For WHOAREYOU packets, the message is empty."
		if len(auth) != whoareyouAuthSize || len(message) != 0 {
			return ErrHeader
		}
		h.IDNonce = [16]byte(auth)
		h.RecordSeq = binary.BigEndian.Uint64(auth[16:])
	case FlagHandshake:
		if len(auth) < handshakeAuthSize || len(auth) > handshakeAuthSize+maxRecord ||
			auth[32] != SignatureSize || auth[33] != KeySize || len(message) < tagSize {
			return ErrHeader
		}
		h.Src = [32]byte(auth)
		h.Signature = auth[34 : 34+SignatureSize]
		h.EphemeralKey = auth[34+SignatureSize : handshakeAuthSize]
		h.Record = auth[handshakeAuthSize:]
	default:
		return ErrHeader
	}
	return nil
}

// xor masks or unmasks b with the key stream that starts at c.ctr, and leaves
// c.ctr at the next block.
func (c *Codec) xor(block cipher.Block, b []byte) {
	for len(b) > 0 {
		block.Encrypt(c.key[:], c.ctr[:])
		n := subtle.XORBytes(b, b, c.key[:])
		b = b[n:]
		for i := ivSize - 1; i >= 0; i-- { // the usual 128-bit counter
			if c.ctr[i]++; c.ctr[i] != 0 {
				break
			}
		}
	}
}

// Open decrypts the message of an unmasked packet. The plaintext is in the
// codec's scratch space and good until the next call; packet is unchanged, so
// that another key can be tried.
func (c *Codec) Open(aead cipher.AEAD, h *Header, packet, message []byte) (plaintext []byte, err error) {
	c.nonce = h.Nonce
	plaintext, err = aead.Open(c.plain[:0], c.nonce[:], message, packet[:len(packet)-len(message)])
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}

// AppendMessage appends an ordinary message packet for the node that mask
// belongs to, encrypted under the session's key. The nonce must never have
// been used with that key before.
func (c *Codec) AppendMessage(dst []byte, mask cipher.Block, iv [16]byte, nonce Nonce, seal cipher.AEAD, m *Message) ([]byte, error) {
	start := len(dst)
	dst = appendStatic(dst, iv, FlagMessage, nonce, messageAuthSize)
	dst = append(dst, c.id[:]...)
	return c.finish(dst, start, mask, nonce, seal, m)
}

// AppendRandom appends a message packet with content that nobody can decrypt,
// "an ordinary message packet with random message content", which asks for a
// handshake.
func (c *Codec) AppendRandom(dst []byte, mask cipher.Block, iv [16]byte, nonce Nonce, content []byte) []byte {
	start := len(dst)
	dst = appendStatic(dst, iv, FlagMessage, nonce, messageAuthSize)
	dst = append(dst, c.id[:]...)
	c.mask(mask, dst[start:])
	return append(dst, content...)
}

// AppendWhoareyou appends the WHOAREYOU packet that answers the packet with
// this nonce. The challenge data of the handshake is what it returns before
// masking; see Challenge.
func (c *Codec) AppendWhoareyou(dst []byte, mask cipher.Block, ch *Challenge) []byte {
	start := len(dst)
	dst = append(dst, ch[:]...)
	c.mask(mask, dst[start:])
	return dst
}

// AppendHandshake appends a handshake message packet, with a record unless
// that is empty.
func (c *Codec) AppendHandshake(dst []byte, mask cipher.Block, iv [16]byte, nonce Nonce, seal cipher.AEAD,
	sig [SignatureSize]byte, eph [KeySize]byte, record []byte, m *Message,
) ([]byte, error) {
	start := len(dst)
	dst = appendStatic(dst, iv, FlagHandshake, nonce, handshakeAuthSize+len(record))
	dst = append(dst, c.id[:]...)
	dst = append(dst, SignatureSize, KeySize)
	dst = append(dst, sig[:]...)
	dst = append(dst, eph[:]...)
	dst = append(dst, record...)
	return c.finish(dst, start, mask, nonce, seal, m)
}

// finish adds the encrypted message to a header and masks the header.
func (c *Codec) finish(dst []byte, start int, mask cipher.Block, nonce Nonce, seal cipher.AEAD, m *Message) ([]byte, error) {
	end := len(dst)
	dst, err := m.AppendTo(dst)
	if err != nil {
		return dst[:start], err
	}
	if len(dst)-start+tagSize > MaxPacket {
		return dst[:start], ErrTooLarge
	}
	c.nonce = nonce
	dst = seal.Seal(dst[:end], c.nonce[:], dst[end:], dst[start:end])
	c.mask(mask, dst[start:end])
	return dst, nil
}

func (c *Codec) mask(mask cipher.Block, b []byte) {
	copy(c.ctr[:], b)
	c.xor(mask, b[ivSize:])
}

func appendStatic(dst []byte, iv [16]byte, flag Flag, nonce Nonce, authSize int) []byte {
	dst = append(dst, iv[:]...)
	dst = append(dst, protocolID[:]...)
	dst = binary.BigEndian.AppendUint16(dst, version)
	dst = append(dst, byte(flag))
	dst = append(dst, nonce[:]...)
	return binary.BigEndian.AppendUint16(dst, uint16(authSize))
}
