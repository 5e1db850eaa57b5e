package discv5

import (
	"crypto/cipher"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
)

const (
	// nonceLimit is how many messages one key encrypts before the session is
	// made anew: half of what the 32-bit counter in the nonce can tell apart.
	nonceLimit = 1 << 31

	// sessionLife bounds the life of keys, which the handshake does not
	// protect after the node's own key is lost.
	sessionLife = 24 * time.Hour

	// hotSessions is how many sessions keep their expanded ciphers, some
	// 2.5 KB each; the others expand them for each packet, 0.5 µs more.
	hotSessions = 256
)

// A keyset is the two keys of one handshake, from our side.
type keyset struct {
	read, write [16]byte
	used        uint32 // 1 and the messages encrypted so far; 0: no keys
}

func newKeyset(read, write [16]byte) keyset { return keyset{read: read, write: write, used: 1} }

// live reports whether there are keys.
func (k *keyset) live() bool { return k.used > 0 }

// spent reports whether no more messages may be encrypted.
func (k *keyset) spent() bool { return k.used >= nonceLimit }

// A session holds the keys shared with one endpoint. A thousand of them are
// kept, so it is laid out to be small: what few have is out of line.
type session struct {
	at      endpoint
	current keyset
	since   uint32 // of the current keys, seconds of the cache's life
	era     uint32 // of the current keys, see sessionCache
	member  bool   // of the table: strangers do not displace it
	used    bool   // since the last sweep of hot sessions

	others *otherKeys // nil if there are none
	hot    *ciphers   // of the current keys, nil if cold

	newer, older *session // in the list of its segment
}

// otherKeys are the other generations of a session's keys: "next" are those of
// a handshake of ours that the peer has not yet answered under, and "previous"
// those that were replaced, since a handshake may cross with one of the peer's.
// A session that works is never given up for one that has not proved itself.
type otherKeys struct{ previous, next keyset }

type ciphers struct {
	mask        cipher.Block
	read, write cipher.AEAD
}

// A sessionCache holds a bounded number of sessions, least recently used
// first out, strangers before members of the table.
type sessionCache struct {
	size      int
	began     time.Time // life is counted from here, whatever becomes of the wall clock
	era       uint32    // how often the local endpoint has changed
	byPeer    map[endpoint]*session
	strangers sessionList
	members   sessionList
	hot       []*session // those with ciphers; a clock hand goes round
	hand      int
	rnd       *rand.ChaCha8
	evicted   uint64
}

// A sessionList is ordered by last use.
type sessionList struct {
	newest, oldest *session
	n              int
}

func newSessionCache(now time.Time, size int, rnd *rand.ChaCha8) *sessionCache {
	return &sessionCache{size: size, began: now, byPeer: make(map[endpoint]*session), rnd: rnd}
}

func (c *sessionCache) list(s *session) *sessionList {
	if s.member {
		return &c.members
	}
	return &c.strangers
}

// get returns the session with at, or nil, and marks it as used.
func (c *sessionCache) get(at endpoint) *session {
	s := c.byPeer[at]
	if s != nil {
		l := c.list(s)
		if l.newest != s {
			l.remove(s)
			l.push(s)
		}
	}
	return s
}

// ensure returns the session with at, a new one without keys if need be.
func (c *sessionCache) ensure(at endpoint, member bool) *session {
	if s := c.get(at); s != nil {
		return s
	}
	for len(c.byPeer) >= c.size {
		victim := c.strangers.oldest
		if victim == nil {
			victim = c.members.oldest
		}
		c.remove(victim)
		c.evicted++
	}
	s := &session{at: at, member: member}
	c.byPeer[at] = s
	c.list(s).push(s)
	return s
}

func (c *sessionCache) remove(s *session) {
	c.list(s).remove(s)
	delete(c.byPeer, s.at)
	s.hot = nil
}

// drop forgets the session with at, if there is one.
func (c *sessionCache) drop(at endpoint) {
	if s := c.byPeer[at]; s != nil {
		c.remove(s)
	}
}

// setMember protects the session with at, or ends that.
func (c *sessionCache) setMember(at endpoint, member bool) {
	s := c.byPeer[at]
	if s == nil || s.member == member {
		return
	}
	c.list(s).remove(s)
	s.member = member
	c.list(s).push(s)
}

// establish makes keys the current ones of s; what was current can still be
// read.
func (c *sessionCache) establish(now time.Time, s *session, k keyset) {
	if s.current.live() {
		s.extra().previous = s.current
	}
	s.current, s.since, s.era, s.hot = k, c.age(now), c.era, nil
}

// expect has s wait for the peer to answer under k, the keys of our handshake.
func (s *session) expect(k keyset) *keyset {
	s.extra().next = k
	return &s.others.next
}

// giveUp forgets the keys of a handshake that was not answered.
func (s *session) giveUp() {
	if s.others != nil {
		s.others.next = keyset{}
	}
}

func (s *session) extra() *otherKeys {
	if s.others == nil {
		s.others = new(otherKeys)
	}
	return s.others
}

// age is the time since the cache was made.
func (c *sessionCache) age(now time.Time) uint32 {
	return uint32(max(now.Sub(c.began), 0) / time.Second)
}

// usable reports whether we may ask the peer under the current keys: not
// after a change of our endpoint, which it is to hear of by a handshake.
func (c *sessionCache) usable(now time.Time, s *session) bool {
	return c.answerable(now, s) && s.era == c.era
}

// answerable reports whether we may encrypt with the current keys.
func (c *sessionCache) answerable(now time.Time, s *session) bool {
	return s != nil && c.readable(now, s) && !s.current.spent()
}

// readable reports whether the current keys are there and not too old.
func (c *sessionCache) readable(now time.Time, s *session) bool {
	return s.current.live() && c.age(now)-s.since < uint32(sessionLife/time.Second)
}

// open decrypts a message from the peer and returns the keys to answer with.
// The first message under the keys of our last handshake makes them current.
func (c *sessionCache) open(now time.Time, codec *wire.Codec, s *session, h *wire.Header, packet, message []byte) (plaintext []byte, k *keyset, confirmed bool) {
	if c.readable(now, s) {
		if pt, err := codec.Open(c.heat(s).read, h, packet, message); err == nil {
			return pt, &s.current, false
		}
	}
	o := s.others
	if o == nil {
		return nil, nil, false
	}
	if o.next.live() {
		if pt, err := codec.Open(wire.NewAEAD(o.next.read), h, packet, message); err == nil {
			c.establish(now, s, o.next)
			o.next = keyset{}
			return pt, &s.current, true
		}
	}
	if o.previous.live() {
		if pt, err := codec.Open(wire.NewAEAD(o.previous.read), h, packet, message); err == nil {
			return pt, &o.previous, false
		}
	}
	return nil, nil, false
}

// seal appends a message packet to the peer under k, which is one of s's.
func (c *sessionCache) seal(dst []byte, codec *wire.Codec, s *session, k *keyset, m *wire.Message) (packet []byte, nonce wire.Nonce, err error) {
	nonce = c.nonce(k)
	var iv [16]byte
	_, _ = c.rnd.Read(iv[:]) // never fails
	if k == &s.current {
		hot := c.heat(s)
		packet, err = codec.AppendMessage(dst, hot.mask, iv, nonce, hot.write, m)
	} else {
		packet, err = codec.AppendMessage(dst, wire.NewMask(s.at.id), iv, nonce, wire.NewAEAD(k.write), m)
	}
	return packet, nonce, err
}

// nonce returns a nonce never used before with k's write key: "encoding the
// current outgoing message count into the first 32 bits of the nonce and
// filling the remaining 64 bits with random data".
func (c *sessionCache) nonce(k *keyset) wire.Nonce {
	var n wire.Nonce
	binary.BigEndian.PutUint32(n[:], k.used)
	k.used++
	binary.BigEndian.PutUint64(n[4:], c.rnd.Uint64())
	return n
}

// heat returns the ciphers of s's current keys.
func (c *sessionCache) heat(s *session) *ciphers {
	s.used = true
	if s.hot != nil {
		return s.hot
	}
	s.hot = &ciphers{
		mask:  wire.NewMask(s.at.id),
		read:  wire.NewAEAD(s.current.read),
		write: wire.NewAEAD(s.current.write),
	}
	if len(c.hot) < hotSessions {
		c.hot = append(c.hot, s)
		return s.hot
	}
	for { // the clock: those used since the hand last passed stay
		c.hand = (c.hand + 1) % len(c.hot)
		old := c.hot[c.hand]
		if old == s || !old.used || old.hot == nil {
			if old != s {
				old.hot = nil
			}
			c.hot[c.hand] = s
			return s.hot
		}
		old.used = false
	}
}

// sweep cools the sessions not used since the last sweep, so that an idle
// node holds no ciphers.
func (c *sessionCache) sweep() {
	kept := c.hot[:0]
	for _, s := range c.hot {
		if s.hot == nil {
			continue
		}
		if !s.used {
			s.hot = nil
			continue
		}
		s.used = false
		kept = append(kept, s)
	}
	clear(c.hot[len(kept):])
	c.hot, c.hand = kept, 0
	if len(kept) == 0 {
		c.hot = nil
	}
}

func (l *sessionList) push(s *session) {
	s.newer, s.older = nil, l.newest
	if l.newest != nil {
		l.newest.newer = s
	}
	l.newest = s
	if l.oldest == nil {
		l.oldest = s
	}
	l.n++
}

func (l *sessionList) remove(s *session) {
	if s.newer != nil {
		s.newer.older = s.older
	} else {
		l.newest = s.older
	}
	if s.older != nil {
		s.older.newer = s.newer
	} else {
		l.oldest = s.newer
	}
	s.newer, s.older = nil, nil
	l.n--
}
