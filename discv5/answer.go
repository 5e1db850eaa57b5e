package discv5

import (
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
)

// handleMessage processes an authenticated message under the keys k of s.
func (c *core) handleMessage(now time.Time, s *session, k *keyset, plaintext []byte) {
	c.heard = now
	m := &c.in
	if err := m.Decode(plaintext); err != nil {
		c.stats.MessagesInvalid++
		return
	}
	switch m.Kind {
	case wire.KindPing:
		c.stats.PingsIn++
		c.handlePing(now, s, k, m)
	case wire.KindFindNode:
		c.stats.FindNodesIn++
		c.handleFindNode(s, k, m)
	case wire.KindTalkReq:
		c.stats.TalkRequestsIn++
		c.handleTalkReq(now, s, k, m)
	case wire.KindPong, wire.KindNodes, wire.KindTalkResp:
		c.handleAnswer(now, s.at, m)
	case wire.KindRegTopic, wire.KindRegConfirmation, wire.KindTopicQuery, wire.KindTopicNodes:
		c.stats.TopicMessages++ // not spoken yet: silence
	}
}

// respond sends c.reply: "When responding to a request, the response should
// be sent to the UDP envelope address of the request."
func (c *core) respond(s *session, k *keyset) bool {
	if k.spent() {
		return false
	}
	packet, _, err := c.sessions.seal(c.out.buffer(), c.codec, s, k, &c.reply)
	if err != nil {
		return false
	}
	c.out.add(s.at.addr, packet)
	return true
}

func (c *core) handlePing(now time.Time, s *session, k *keyset, m *wire.Message) {
	seq := m.Seq
	c.reply = wire.Message{Kind: wire.KindPong, ReqID: m.ReqID, Seq: c.local.Seq(), To: s.at.addr, Records: c.reply.Records}
	c.respond(s, k)
	if e := c.table.get(s.at.id); e != nil && e.addr == s.at.addr {
		c.fetch(now, e, seq)
	}
}

// nodesRoom is how many bytes of records fit one NODES packet: what a message
// may have, less type, list headers, an 8-byte request ID and total.
const nodesRoom = wire.MaxPlaintext - (1 + 3 + 9 + 1 + 3)

// nodesPackets is how many NODES packets we answer with: as many as all
// implementations read.
const nodesPackets = 5

// handleFindNode answers with our own record for distance 0 and live nodes at
// the other distances. "When responding to FINDNODE, implementations must
// avoid relaying any nodes whose liveness has not been verified."
func (c *core) handleFindNode(s *session, k *keyset, m *wire.Message) {
	records := c.reply.Records[:0]
	for _, d := range m.Distances {
		if d == 0 {
			records = append(records, c.local.Bytes())
			break
		}
	}
	c.found = c.table.atDistances(c.found[:0], m.Distances, maxNodesRecords-len(records), func(e *entry) bool {
		return e.live && relayable(s.at.addr.Addr(), e.addr.Addr())
	})
	for _, e := range c.found {
		records = append(records, e.record.Bytes())
	}
	clear(c.found)
	c.respondNodes(s, k, m.ReqID, records)
	c.reply.Records = records[:0]
}

// respondNodes sends records in as few packets as hold them.
func (c *core) respondNodes(s *session, k *keyset, id wire.ReqID, records [][]byte) {
	var cuts [nodesPackets + 1]int // where packet i begins
	parts, room := 0, 0
	for i, r := range records {
		if parts == 0 || len(r) > room {
			if parts == nodesPackets {
				records = records[:i]
				break
			}
			cuts[parts], room = i, nodesRoom
			parts++
		}
		room -= len(r)
	}
	parts = max(parts, 1) // no nodes are an answer too
	cuts[parts] = len(records)
	for i := range parts {
		c.reply = wire.Message{Kind: wire.KindNodes, ReqID: id, Total: uint64(parts), Records: records[cuts[i]:cuts[i+1]]}
		c.respond(s, k)
	}
}
