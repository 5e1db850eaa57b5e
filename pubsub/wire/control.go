package wire

// IHave announces messages of a topic that the sender has seen.
type IHave struct {
	Topic []byte
	IDs   [][]byte
}

// IDList is an IWANT, which asks for messages that were announced, or an
// IDONTWANT, which asks not to be sent these: the sender has them.
type IDList struct{ IDs [][]byte }

// Graft tells that the receiver is now in the sender's mesh of Topic.
type Graft struct{ Topic []byte }

// Prune tells that the receiver is no longer in the sender's mesh of Topic.
type Prune struct {
	Topic []byte
	// Backoff is the time in seconds that the receiver must wait before it
	// grafts again. Whoever obeys it clamps it: any 64 bits may be sent.
	Backoff    uint64
	HasBackoff bool
	// Peers are others that the receiver may turn to.
	Peers []PeerInfo
}

// PeerInfo names a peer that may be grafted instead of the sender.
type PeerInfo struct {
	ID []byte
	// Record is a libp2p signed envelope with the peer's addresses, not
	// verified; nil if absent.
	Record []byte
}

func (d *decoder) control(b []byte) bool {
	d.rpc.HasControl = true
	if d.controlBytes += len(b); d.controlBytes > d.lim.ControlBytes {
		d.rpc.Excess.Control++
		return true
	}
	for len(b) > 0 {
		tag, val, _, rest, ok := field(b)
		if !ok {
			return false
		}
		b = rest
		switch tag {
		case ctlIHave:
			ok = d.ihave(val)
		case ctlIWant:
			ok = d.idList(val, &d.rpc.IWant)
		case ctlGraft:
			ok = d.graft(val)
		case ctlPrune:
			ok = d.prune(val)
		case ctlIDontWant:
			ok = d.idList(val, &d.rpc.IDontWant)
		case ctlExtensions:
			d.rpc.HasExtensions, d.rpc.Extensions = true, val
		default:
			ok = !wrongType(tag, 6)
		}
		if !ok {
			return false
		}
	}
	return true
}

// full reports whether there may be no more control entries, and counts what
// is left out.
func (d *decoder) full() bool {
	if d.entries < d.lim.ControlEntries {
		d.entries++
		return false
	}
	d.rpc.Excess.Control++
	return true
}

// addID appends an id to the shared memory unless it is one too many or too
// long.
func (d *decoder) addID(id []byte) {
	switch {
	case len(d.rpc.ids) >= d.lim.MessageIDs:
		d.rpc.Excess.IDs++
	case len(id) > d.lim.MessageID:
		d.rpc.Excess.Long++
	default:
		d.rpc.ids = append(d.rpc.ids, id)
	}
}

// idsSince is the list of ids added since there were start of them.
func (d *decoder) idsSince(start int) [][]byte {
	ids := d.rpc.ids
	return ids[start:len(ids):len(ids)]
}

func (d *decoder) ihave(b []byte) bool {
	r := d.rpc
	if d.full() {
		return true
	}
	var topic []byte
	start := len(r.ids)
	for len(b) > 0 {
		tag, val, _, rest, ok := field(b)
		if !ok {
			return false
		}
		switch tag {
		case ihaveTopic:
			topic = val
		case ihaveID:
			d.addID(val)
		default:
			if wrongType(tag, 2) {
				return false
			}
		}
		b = rest
	}
	if len(topic) > d.lim.Topic {
		d.rpc.Excess.Long++
		return true
	}
	r.IHave = append(r.IHave, IHave{Topic: topic, IDs: d.idsSince(start)})
	return true
}

// idList decodes an IWANT or IDONTWANT onto list.
func (d *decoder) idList(b []byte, list *[]IDList) bool {
	if d.full() {
		return true
	}
	start := len(d.rpc.ids)
	for len(b) > 0 {
		tag, val, _, rest, ok := field(b)
		if !ok || tag != idsID && wrongType(tag, 1) {
			return false
		}
		if tag == idsID {
			d.addID(val)
		}
		b = rest
	}
	*list = append(*list, IDList{IDs: d.idsSince(start)})
	return true
}

func (d *decoder) graft(b []byte) bool {
	r := d.rpc
	if d.full() {
		return true
	}
	var g Graft
	for len(b) > 0 {
		tag, val, _, rest, ok := field(b)
		if !ok || tag != graftTopic && wrongType(tag, 1) {
			return false
		}
		if tag == graftTopic {
			g.Topic = val
		}
		b = rest
	}
	if len(g.Topic) > d.lim.Topic {
		d.rpc.Excess.Long++
		return true
	}
	r.Graft = append(r.Graft, g)
	return true
}

func (d *decoder) prune(b []byte) bool {
	r := d.rpc
	if d.full() {
		return true
	}
	var p Prune
	start := len(r.peers)
	for len(b) > 0 {
		tag, val, n, rest, ok := field(b)
		if !ok {
			return false
		}
		switch tag {
		case pruneTopic:
			p.Topic = val
		case prunePeer:
			ok = d.peer(val, start)
		case pruneBackoff:
			p.Backoff, p.HasBackoff = n, true
		default:
			ok = !wrongType(tag, 3)
		}
		if !ok {
			return false
		}
		b = rest
	}
	if len(p.Topic) > d.lim.Topic {
		d.rpc.Excess.Long++
		return true
	}
	p.Peers = r.peers[start:len(r.peers):len(r.peers)]
	r.Prune = append(r.Prune, p)
	return true
}

// peer decodes one peer exchange entry of the PRUNE whose first is start.
func (d *decoder) peer(b []byte, start int) bool {
	r := d.rpc
	if len(r.peers)-start >= d.lim.PeerInfos || len(r.peers) >= maxPeersPerRPC {
		d.rpc.Excess.Peers++
		return true
	}
	var p PeerInfo
	for len(b) > 0 {
		tag, val, _, rest, ok := field(b)
		if !ok {
			return false
		}
		switch tag {
		case peerID:
			p.ID = val
		case peerRecord:
			p.Record = val
		default:
			if wrongType(tag, 2) {
				return false
			}
		}
		b = rest
	}
	r.peers = append(r.peers, p)
	return true
}
