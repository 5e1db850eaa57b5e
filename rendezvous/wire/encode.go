package wire

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// Append appends m, without a length prefix, to dst and returns the extended
// slice. What other implementations require is always written, zeros too: the
// type, a status, each record's ns and bytes; nim-libp2p and rust-libp2p drop
// messages that leave them out. Kinds and fields that the dialect does not
// have are the caller's mistake: Append panics for Unregister in Waku and
// leaves cookies out.
func Append(dst []byte, d Dialect, m *Message) []byte {
	l := &layouts[d]
	dst = appendKind(dst, l, m.Kind)
	dst = protowire.AppendTag(dst, l.bodies[m.Kind], protowire.BytesType)
	// The length comes before the body: leave a byte for it, move if it was
	// not enough.
	at := len(dst)
	dst = m.appendBody(append(dst, 0), d)
	return fixLength(dst, at)
}

func appendKind(dst []byte, l *layout, k Kind) []byte {
	for t, kind := range l.kinds {
		if kind == int8(k) {
			dst = protowire.AppendTag(dst, 1, protowire.VarintType)
			return protowire.AppendVarint(dst, uint64(t))
		}
	}
	panic("BUG: " + k.String() + " is not in the dialect")
}

// fixLength writes the length of dst[at+1:] to dst[at:].
func fixLength(dst []byte, at int) []byte {
	size := len(dst) - at - 1
	if size < 0x80 {
		dst[at] = byte(size)
		return dst
	}
	var prefix [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(prefix[:], uint64(size))
	dst = append(dst, prefix[:n-1]...) // grow
	copy(dst[at+n:], dst[at+1:at+1+size])
	copy(dst[at:], prefix[:n])
	return dst
}

func (m *Message) appendBody(dst []byte, d Dialect) []byte {
	switch m.Kind {
	case Register:
		dst = appendString(dst, 1, m.NS)
		dst = appendBytes(dst, 2, m.Record)
		if m.HasTTL {
			dst = appendVarint(dst, 3, m.TTL)
		}
	case RegisterResponse:
		dst = appendVarint(dst, 1, uint64(m.Status))
		if m.Text != "" {
			dst = appendString(dst, 2, m.Text)
		}
		if m.HasTTL {
			dst = appendVarint(dst, 3, m.TTL)
		}
	case Unregister:
		dst = appendString(dst, 1, m.NS)
		if len(m.ID) > 0 {
			dst = appendBytes(dst, 2, m.ID)
		}
	case Discover:
		if m.HasNS || m.NS != "" {
			dst = appendString(dst, 1, m.NS)
		}
		if m.HasLim {
			dst = appendVarint(dst, 2, m.Limit)
		}
		if m.Cookie != nil && d == Libp2p {
			dst = appendBytes(dst, 3, m.Cookie)
		}
	case DiscoverResponse:
		for i := range m.Records {
			dst = appendRegistration(dst, &m.Records[i])
		}
		dst = appendTail(dst, d, m.Cookie, m.Status, m.Text)
	}
	return dst
}

// appendTail appends what follows the records of a DISCOVER_RESPONSE.
func appendTail(dst []byte, d Dialect, cookie []byte, s Status, text string) []byte {
	if cookie != nil && d == Libp2p {
		dst = appendBytes(dst, 2, cookie)
	}
	dst = appendVarint(dst, 3, uint64(s))
	if text != "" {
		dst = appendString(dst, 4, text)
	}
	return dst
}

func appendRegistration(dst []byte, r *Registration) []byte {
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(r.size()))
	dst = appendString(dst, 1, r.NS)
	dst = appendBytes(dst, 2, r.Record)
	if r.HasTTL {
		dst = appendVarint(dst, 3, r.TTL)
	}
	return dst
}

// size returns the encoded size of r's fields.
func (r *Registration) size() int {
	n := 2 + protowire.SizeBytes(len(r.NS)) + protowire.SizeBytes(len(r.Record))
	if r.HasTTL {
		n += 1 + protowire.SizeVarint(r.TTL)
	}
	return n
}

func appendVarint(dst []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), v)
}

func appendBytes(dst []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), v)
}

func appendString(dst []byte, num protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(dst, num, protowire.BytesType), v)
}

// AppendFrame appends m behind its length, as it goes on a stream.
func AppendFrame(dst []byte, d Dialect, m *Message) []byte {
	at := len(dst)
	return fixLength(Append(append(dst, 0), d, m), at)
}

// headroom is what may come before the records of a framed DISCOVER_RESPONSE:
// the frame's length, type, body tag and length.
const headroom = 2*binary.MaxVarintLen32 + 2 + 1

// A Page builds a framed DISCOVER_RESPONSE record by record in one buffer, to
// which it does not add an allocation per record. The zero Page is not ready:
// call Reset. It may be used again after another Reset.
type Page struct {
	dialect Dialect
	buf     []byte // headroom, then records
	n       int
}

// Reset starts a page. It keeps the memory of the last one.
func (p *Page) Reset(d Dialect) {
	p.dialect, p.n = d, 0
	if cap(p.buf) < headroom {
		p.buf = make([]byte, headroom, 4096)
	}
	p.buf = p.buf[:headroom]
}

// Len returns the number of records.
func (p *Page) Len() int { return p.n }

// Cap returns the bytes of memory that the page holds on to.
func (p *Page) Cap() int { return cap(p.buf) }

// Room reports whether a record fits so that the message, with a cookie of
// cookieSize bytes, is no longer than limit bytes without its length prefix.
func (p *Page) Room(r *Registration, cookieSize, limit int) bool {
	const statusAndKind = 2 + 2 // status and type with their tags
	body := len(p.buf) - headroom + 1 + protowire.SizeBytes(r.size()) +
		1 + protowire.SizeBytes(cookieSize) + statusAndKind
	return body+1+protowire.SizeVarint(uint64(body)) <= limit
}

// Add appends a record. Its bytes are copied.
func (p *Page) Add(r *Registration) {
	p.buf = appendRegistration(p.buf, r)
	p.n++
}

// Finish ends the page with its cookie (nil for none) and status, and returns
// the frame, length prefix included. It is good until the next Reset.
func (p *Page) Finish(cookie []byte, s Status, text string) []byte {
	l := &layouts[p.dialect]
	p.buf = appendTail(p.buf, p.dialect, cookie, s, text)
	var head [headroom]byte
	h := appendKind(head[:0], l, DiscoverResponse)
	h = protowire.AppendTag(h, l.bodies[DiscoverResponse], protowire.BytesType)
	h = protowire.AppendVarint(h, uint64(len(p.buf)-headroom))
	var prefix [binary.MaxVarintLen32]byte
	n := binary.PutUvarint(prefix[:], uint64(len(h)+len(p.buf)-headroom))
	start := headroom - len(h) - n
	copy(p.buf[start:], prefix[:n])
	copy(p.buf[start+n:], h)
	return p.buf[start:]
}
