package wire

import "slices"

// RPC is one frame, decoded. Its slices are reused by the next Decode; the byte
// slices in them are views into the frame.
type RPC struct {
	Subscriptions []SubOpts
	Publish       []Message

	IHave     []IHave
	IWant     []IDList
	Graft     []Graft
	Prune     []Prune
	IDontWant []IDList

	HasControl bool // there was a control part, even if empty
	// Extensions is the encoded list of extensions that a peer of
	// /meshsub/1.3.0 announces in its first RPC.
	HasExtensions bool
	Extensions    []byte

	// Excess counts what was left out of the above because of a limit.
	Excess Excess

	// ids and peers are the memory behind the entries' lists.
	ids   [][]byte
	peers []PeerInfo
}

// SubOpts is a change of the sender's subscriptions.
type SubOpts struct {
	Subscribe bool
	Topic     []byte
	// Flags of /meshsub/1.3.0's partial messages.
	RequestsPartial, SupportsPartial bool
}

// Decode decodes b, a frame without its length prefix, into r and forgets what
// r held. The limits have their defaults filled in ([Limits.WithDefaults]). It
// allocates only to grow r's slices, which happens a few times in a reader's
// life. On an error r holds what was decoded so far, for no use.
//
// Unknown fields are skipped; a known one of a foreign wire type is
// [ErrMalformed], as go-libp2p has it. An RPC longer than its limit is
// [ErrLimit]; what exceeds another limit is left out and counted in r.Excess.
func (r *RPC) Decode(b []byte, limits *Limits) error {
	r.Reset()
	if len(b) > limits.RPC {
		return ErrLimit
	}
	d := decoder{rpc: r, lim: limits}
	for rest := b; len(rest) > 0; {
		tag, val, _, next, ok := field(rest)
		if !ok {
			return ErrMalformed
		}
		switch tag {
		case rpcSubscriptions:
			ok = d.subscription(val)
		case rpcPublish:
			ok = d.publish(rest[:len(rest)-len(next)], val)
		case rpcControl:
			ok = d.control(val)
		default:
			ok = !wrongType(tag, 3)
		}
		if !ok {
			return ErrMalformed
		}
		rest = next
	}
	return nil
}

// An RPC keeps the memory of so many entries from one frame to the next; a
// longer list is given back, so that one large RPC does not weigh on its
// reader for ever.
const (
	keepEntries = 256
	keepIDs     = 2048
)

// Reset empties r and lets go of the frame it points into. Most RPCs have one
// kind of entry, so lists are looked at before they are cleared.
func (r *RPC) Reset() {
	recycle(&r.Subscriptions, keepEntries)
	recycle(&r.Publish, keepEntries)
	recycle(&r.IHave, keepEntries)
	recycle(&r.IWant, keepEntries)
	recycle(&r.Graft, keepEntries)
	recycle(&r.Prune, keepEntries)
	recycle(&r.IDontWant, keepEntries)
	recycle(&r.ids, keepIDs)
	recycle(&r.peers, keepEntries)
	r.HasControl, r.HasExtensions, r.Extensions = false, false, nil
	r.Excess = Excess{}
}

// recycle empties *s, all of which is zero beyond its length.
func recycle[T any](s *[]T, keep int) {
	if len(*s) == 0 {
		return
	}
	emptied(s, keep)
}

func emptied[T any](s *[]T, keep int) {
	if cap(*s) > keep {
		*s = nil
		return
	}
	clear(*s)
	*s = (*s)[:0]
}

// decoder carries what the parts of an RPC share while it is being decoded.
type decoder struct {
	rpc *RPC
	lim *Limits

	entries, controlBytes int // of control so far
}

func (d *decoder) subscription(b []byte) bool {
	var s SubOpts
	for len(b) > 0 {
		tag, val, n, rest, ok := field(b)
		if !ok {
			return false
		}
		switch tag {
		case subSubscribe:
			s.Subscribe = n != 0
		case subTopic:
			s.Topic = val
		case subRequestsPartial:
			s.RequestsPartial = n != 0
		case subSupportsPartial:
			s.SupportsPartial = n != 0
		default:
			if wrongType(tag, 4) {
				return false
			}
		}
		b = rest
	}
	switch {
	case len(d.rpc.Subscriptions) >= d.lim.Subscriptions:
		d.rpc.Excess.Subscriptions++
	case len(s.Topic) > d.lim.Topic:
		d.rpc.Excess.Long++
	default:
		d.rpc.Subscriptions = append(d.rpc.Subscriptions, s)
	}
	return true
}

// publish decodes the message raw, which stands on the wire as field.
func (d *decoder) publish(field, raw []byte) bool {
	r := d.rpc
	n := len(r.Publish)
	if n >= d.lim.Publish {
		r.Excess.Publish++
		return true
	}
	if n == cap(r.Publish) {
		r.Publish = slices.Grow(r.Publish, 1)
	}
	r.Publish = r.Publish[:n+1] // zero: Reset left it so
	m := &r.Publish[n]
	if !m.decode(raw) {
		return false
	}
	if len(field) == fieldSize(len(raw)) {
		m.Field = field[:len(field):len(field)]
	}
	if len(m.Topic) > d.lim.Topic {
		r.Excess.Long++
		*m = Message{}
		r.Publish = r.Publish[:n]
	}
	return true
}
