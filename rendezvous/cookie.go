package rendezvous

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// A listing is how far a client has come in reading a namespace. It starts at
// an entry drawn by lot, so that the first page is not the same few entries
// for everyone, goes round to where it began, and then follows what is new:
//
//	phase 1   start < pos <= hi     hi is the newest when the listing began
//	phase 2   0 < pos <= start
//	phase 3   hi < pos              hi moves on with every page
//
// An entry that is registered again meanwhile moves past hi, so it comes in
// phase 3 and once only; none can slip by.
type listing struct {
	phase uint8
	hi    uint64
	start uint64
	cur   uint64 // phases 1 and 2: the last position that was looked at
}

const (
	phaseNew    = 0 // no cookie
	phaseUp     = 1
	phaseRound  = 2
	phaseFollow = 3
)

// cookieSize is the size of every cookie. The layout suits all known clients:
// rust-libp2p reads the bytes from the ninth on as UTF-8 text, nim-libp2p
// wants fewer than 1000 bytes.
//
//	8 bytes    hi, big-endian
//	64 bytes   base64url of: phase 1 | namespace tag 7 | epoch 8 | start 8 |
//	           cur 8 | MAC 16
const cookieSize = 8 + 64

const (
	cookieBody = 1 + tagSize + 8 + 8 + 8
	tagSize    = 7 // makes the body a multiple of three: no spare bits in base64
	macSize    = 16
)

type nsTag [tagSize]byte

// tagOf names a namespace in a cookie.
func tagOf(realm Realm, ns string) (t nsTag) {
	h := sha256.New()
	h.Write([]byte{byte(realm)})
	h.Write([]byte(ns))
	var sum [sha256.Size]byte
	copy(t[:], h.Sum(sum[:0]))
	return t
}

// cookies seals listings so that a client can only give back what it was
// given. Nothing is remembered for them.
type cookies struct {
	epoch uint64
	// secrets: the first seals, all open. The store's comes first, then the
	// point's own, so that cookies are known as such after the store was lost.
	secrets [][32]byte
}

func (c *cookies) mac(secret *[32]byte, hi, body []byte) (m [macSize]byte) {
	h := hmac.New(sha256.New, secret[:])
	h.Write(hi)
	h.Write(body)
	var sum [sha256.Size]byte
	copy(m[:], h.Sum(sum[:0]))
	return m
}

// seal appends the cookie for l in the namespace with the given tag.
func (c *cookies) seal(dst []byte, tag nsTag, l listing) []byte {
	dst = binary.BigEndian.AppendUint64(dst, l.hi)
	var buf [cookieBody + macSize]byte
	b := append(buf[:0], l.phase)
	b = append(b, tag[:]...)
	b = binary.BigEndian.AppendUint64(b, c.epoch)
	b = binary.BigEndian.AppendUint64(b, l.start)
	b = binary.BigEndian.AppendUint64(b, l.cur)
	m := c.mac(&c.secrets[0], dst[len(dst)-8:], b)
	b = append(b, m[:]...)
	return base64.RawURLEncoding.AppendEncode(dst, b)
}

// A cookieFit says how an authentic cookie fits the question it came with.
type cookieFit uint8

const (
	cookieBad   cookieFit = iota // not authentic
	cookieOther                  // of another namespace, epoch or store: start again
	cookieGood
)

// open reads a cookie that came with a question about the tagged namespace.
func (c *cookies) open(cookie []byte, tag nsTag) (listing, cookieFit) {
	if len(cookie) != cookieSize {
		return listing{}, cookieBad
	}
	var buf [cookieBody + macSize]byte
	n, err := base64.RawURLEncoding.Strict().Decode(buf[:], cookie[8:])
	if err != nil || n != len(buf) {
		return listing{}, cookieBad
	}
	hi, body := cookie[:8], buf[:cookieBody]
	if !c.authentic(hi, body, buf[cookieBody:]) {
		return listing{}, cookieBad
	}
	l := listing{
		phase: body[0],
		hi:    binary.BigEndian.Uint64(hi),
		start: binary.BigEndian.Uint64(body[1+tagSize+8:]),
		cur:   binary.BigEndian.Uint64(body[1+tagSize+16:]),
	}
	if nsTag(body[1:]) != tag || binary.BigEndian.Uint64(body[1+tagSize:]) != c.epoch {
		return listing{}, cookieOther
	}
	return l, cookieGood
}

func (c *cookies) authentic(hi, body, mac []byte) bool {
	for i := range c.secrets {
		m := c.mac(&c.secrets[i], hi, body)
		if hmac.Equal(m[:], mac) {
			return true
		}
	}
	return false
}
