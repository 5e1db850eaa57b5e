package wire

// Frame length prefixes.

// FrameLen reads the length prefix at the start of b. It returns the length of
// the RPC and of the prefix itself; a prefix of zero bytes says that b ends
// within it. It returns [ErrMalformed] for a prefix that is no varint of 64
// bits. Whether the RPC is too long is for the caller to say, before it reads
// on.
func FrameLen(b []byte) (rpc uint64, prefix int, err error) {
	for i, c := range b {
		if i == 9 && c > 1 {
			return 0, 0, ErrMalformed
		}
		rpc |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return rpc, i + 1, nil
		}
	}
	return 0, 0, nil
}

// AppendFrame appends rpc after its length.
func AppendFrame(dst, rpc []byte) []byte {
	dst = appendVarint(dst, uint64(len(rpc)))
	return append(dst, rpc...)
}

// AppendFrameLen appends the length prefix of an RPC of n bytes.
func AppendFrameLen(dst []byte, n int) []byte { return appendVarint(dst, uint64(n)) }

// AppendSubscription appends an RPC's entry for a change of subscription.
func AppendSubscription[T ~string | ~[]byte](dst []byte, topic T, subscribe bool) []byte {
	dst = append(dst, rpcSubscriptions)
	dst = appendVarint(dst, uint64(2+fieldSize(len(topic))))
	dst = append(dst, subSubscribe, 0)
	if subscribe {
		dst[len(dst)-1] = 1
	}
	return appendBytes(dst, subTopic, topic)
}

// SubscriptionSize is the length of what [AppendSubscription] appends for a
// topic of n bytes.
func SubscriptionSize(n int) int { return fieldSize(2 + fieldSize(n)) }

// Control is what goes into the control part of one RPC. Its zero value is
// nothing.
type Control struct {
	IHave     []OutIHave
	IWant     []string // message ids
	Graft     []string // topics
	Prune     []OutPrune
	IDontWant []string // message ids
}

// OutIHave announces messages of a topic.
type OutIHave struct {
	Topic string
	IDs   []string
}

// OutPrune prunes the receiver from the mesh of a topic. A peer of
// /meshsub/1.0.0 knows neither backoff nor peers: give it zero and none.
type OutPrune struct {
	Topic   string
	Backoff uint64 // seconds; left out if zero
	Peers   []PeerInfo
}

// Size is the length of what [Control.AppendControl] appends.
func (c *Control) Size() int {
	n := c.bodySize()
	if n == 0 {
		return 0
	}
	return fieldSize(n)
}

// AppendControl appends an RPC's control part, or nothing if c is empty. There
// is one per RPC: rust-libp2p does not merge two.
func (c *Control) AppendControl(dst []byte) []byte {
	n := c.bodySize()
	if n == 0 {
		return dst
	}
	dst = append(dst, rpcControl)
	dst = appendVarint(dst, uint64(n))
	for i := range c.IHave {
		dst = appendIHave(dst, c.IHave[i].Topic, c.IHave[i].IDs)
	}
	if len(c.IWant) > 0 {
		dst = appendIDList(dst, ctlIWant, c.IWant)
	}
	for _, topic := range c.Graft {
		dst = appendGraft(dst, topic)
	}
	for i := range c.Prune {
		p := &c.Prune[i]
		dst = appendPrune(dst, p.Topic, p.Backoff, p.Peers)
	}
	if len(c.IDontWant) > 0 {
		dst = appendIDList(dst, ctlIDontWant, c.IDontWant)
	}
	return dst
}

func (c *Control) bodySize() int {
	n := 0
	for i := range c.IHave {
		n += fieldSize(fieldSize(len(c.IHave[i].Topic)) + idsSize(c.IHave[i].IDs))
	}
	if len(c.IWant) > 0 {
		n += fieldSize(idsSize(c.IWant))
	}
	for _, topic := range c.Graft {
		n += fieldSize(fieldSize(len(topic)))
	}
	for i := range c.Prune {
		p := &c.Prune[i]
		n += fieldSize(pruneSize(len(p.Topic), p.Backoff, p.Peers))
	}
	if len(c.IDontWant) > 0 {
		n += fieldSize(idsSize(c.IDontWant))
	}
	return n
}

func appendIHave[T, ID ~string | ~[]byte](dst []byte, topic T, ids []ID) []byte {
	dst = append(dst, ctlIHave)
	dst = appendVarint(dst, uint64(fieldSize(len(topic))+idsSize(ids)))
	dst = appendBytes(dst, ihaveTopic, topic)
	return appendIDs(dst, ihaveID, ids)
}

// appendIDList appends an IWANT or IDONTWANT.
func appendIDList[ID ~string | ~[]byte](dst []byte, tag byte, ids []ID) []byte {
	dst = append(dst, tag)
	dst = appendVarint(dst, uint64(idsSize(ids)))
	return appendIDs(dst, idsID, ids)
}

func appendGraft[T ~string | ~[]byte](dst []byte, topic T) []byte {
	dst = append(dst, ctlGraft)
	dst = appendVarint(dst, uint64(fieldSize(len(topic))))
	return appendBytes(dst, graftTopic, topic)
}

func appendPrune[T ~string | ~[]byte](dst []byte, topic T, backoff uint64, peers []PeerInfo) []byte {
	dst = append(dst, ctlPrune)
	dst = appendVarint(dst, uint64(pruneSize(len(topic), backoff, peers)))
	dst = appendBytes(dst, pruneTopic, topic)
	for i := range peers {
		dst = append(dst, prunePeer)
		dst = appendVarint(dst, uint64(peers[i].size()))
		dst = appendOptional(dst, peerID, peers[i].ID)
		dst = appendOptional(dst, peerRecord, peers[i].Record)
	}
	if backoff > 0 {
		dst = append(dst, pruneBackoff)
		dst = appendVarint(dst, backoff)
	}
	return dst
}

// AppendRPC appends all of r, without a length prefix and without the entries
// that a limit left out. It is for those who change an RPC or test with it; a
// router has the parts at hand and appends them.
func AppendRPC(dst []byte, r *RPC) []byte {
	for i := range r.Subscriptions {
		dst = appendSubOpts(dst, &r.Subscriptions[i])
	}
	for i := range r.Publish {
		dst = AppendPublishRaw(dst, r.Publish[i].Raw)
	}
	if !r.HasControl {
		return dst
	}
	return appendBytes(dst, rpcControl, r.appendControl(nil))
}

func appendSubOpts(dst []byte, s *SubOpts) []byte {
	start := len(dst)
	dst = AppendSubscription(dst, s.Topic, s.Subscribe)
	if !s.RequestsPartial && !s.SupportsPartial {
		return dst
	}
	// Rare: write the entry again with the flags behind it.
	_, val, _, _, _ := field(dst[start:])
	body := append([]byte(nil), val...)
	if s.RequestsPartial {
		body = append(body, subRequestsPartial, 1)
	}
	if s.SupportsPartial {
		body = append(body, subSupportsPartial, 1)
	}
	return appendBytes(dst[:start], rpcSubscriptions, body)
}

func (r *RPC) appendControl(dst []byte) []byte {
	for i := range r.IHave {
		dst = appendIHave(dst, r.IHave[i].Topic, r.IHave[i].IDs)
	}
	for _, w := range r.IWant {
		dst = appendIDList(dst, ctlIWant, w.IDs)
	}
	for _, g := range r.Graft {
		dst = appendGraft(dst, g.Topic)
	}
	for i := range r.Prune {
		p := &r.Prune[i]
		dst = appendPrune(dst, p.Topic, p.Backoff, p.Peers)
	}
	for _, n := range r.IDontWant {
		dst = appendIDList(dst, ctlIDontWant, n.IDs)
	}
	if r.HasExtensions {
		dst = appendBytes(dst, ctlExtensions, r.Extensions)
	}
	return dst
}

func pruneSize(topic int, backoff uint64, peers []PeerInfo) int {
	n := fieldSize(topic)
	for i := range peers {
		n += fieldSize(peers[i].size())
	}
	if backoff > 0 {
		n += 1 + varintSize(backoff)
	}
	return n
}

func (p *PeerInfo) size() int { return optionalSize(p.ID) + optionalSize(p.Record) }

func idsSize[ID ~string | ~[]byte](ids []ID) int {
	n := 0
	for _, id := range ids {
		n += fieldSize(len(id))
	}
	return n
}

func appendIDs[ID ~string | ~[]byte](dst []byte, tag byte, ids []ID) []byte {
	for _, id := range ids {
		dst = appendBytes(dst, tag, id)
	}
	return dst
}
