package discv5_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
)

// What discv5-wire.md says of messages; spec_test.go has packets, handshakes
// and sessions.

// "The recipient of a message must mirror the value in the request-id element
// of the response." "request-id is an RLP byte array of length <= 8 bytes."
func TestRequestIDs(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		for n := range 9 {
			id, _ := wire.ReqIDOf(bytes.Repeat([]byte{0}, n))
			for _, m := range []wire.Message{
				{Kind: wire.KindPing, ReqID: id},
				{Kind: wire.KindFindNode, ReqID: id, Distances: []uint16{0}},
				{Kind: wire.KindTalkReq, ReqID: id, Protocol: []byte("x")},
			} {
				p.deliver(p.addr, p.message(m))
				got := p.received()
				if len(got) != 1 || got[0].msg == nil || got[0].msg.ReqID != id {
					t.Errorf("%s with a request ID of %d bytes: %+v", m.Kind, n, got)
				}
			}
		}
	})
}

// PONG: "recipient-ip = 16 or 4 byte IP address of the intended recipient",
// "recipient-port = recipient UDP port", "enr-seq = ENR sequence number of
// sender".
func TestPong(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		p.deliver(p.addr, p.message(ping(2)))
		got := p.wantMessages(wire.KindPong)[0]
		if got.To != p.addr || got.Seq != r.node.LocalRecord().Seq() {
			t.Errorf("PONG to %s with seq %d, want %s and %d", got.To, got.Seq, p.addr, r.node.LocalRecord().Seq())
		}
	})
}

// "When distance 0 is requested, the result set should contain the recipient's
// current record." Distances above 256 are ignored, and no distances at all
// are answered with no nodes.
func TestFindNodeDistances(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		ask := func(distances ...uint16) []*wire.Message {
			p.deliver(p.addr, p.message(wire.Message{Kind: wire.KindFindNode, ReqID: wire.NewReqID(9), Distances: distances}))
			return p.wantMessages(wire.KindNodes)
		}
		for _, distances := range [][]uint16{{0}, {0, 256}, {256, 0, 0}, {300, 0}} {
			got := ask(distances...)
			if len(got) != 1 || got[0].Total != 1 || len(got[0].Records) != 1 ||
				!bytes.Equal(got[0].Records[0], r.node.LocalRecord().Bytes()) {
				t.Errorf("FINDNODE %v: %+v", distances, got)
			}
		}
		for _, distances := range [][]uint16{{}, {1}, {256}, {257}, {65535}} {
			if got := ask(distances...); len(got) != 1 || got[0].Total != 1 || len(got[0].Records) != 0 {
				t.Errorf("FINDNODE %v: %+v", distances, got)
			}
		}
	})
}

// "When responding to FINDNODE, implementations must avoid relaying any nodes
// whose liveness has not been verified. This is easy to achieve by storing an
// additional flag per node in the table, tracking whether the node has ever
// successfully responded to a PING request."
func TestOnlyLiveNodesAreRelayed(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		asker := r.newPeer("192.0.2.1:30303")
		asker.connect()
		p := r.newPeer(peerAddr)
		p.connect()
		d := []uint16{uint16(enr.LogDistance(r.node.ID(), p.id))}
		ask := func() (records [][]byte) {
			asker.deliver(asker.addr, asker.message(wire.Message{Kind: wire.KindFindNode, ReqID: wire.NewReqID(9), Distances: d}))
			for _, got := range asker.received() {
				if got.msg != nil && got.msg.Kind == wire.KindNodes {
					records = append(records, got.msg.Records...)
				}
			}
			return records
		}
		if got := ask(); len(got) != 0 {
			t.Errorf("a node that has answered no PING was relayed")
		}
		p.alive()
		if got := ask(); len(got) != 1 || !bytes.Equal(got[0], p.record.Bytes()) {
			t.Errorf("got %d records, want the live node's", len(got))
		}
		// An endpoint that is new has not answered yet.
		p.setRecord(2, netip.MustParseAddrPort("198.51.100.99:1234"))
		r.node.AddNode(p.record)
		if got := ask(); len(got) != 0 {
			t.Errorf("a node at a new endpoint was relayed")
		}
	})
}

// "Implementations should limit the number of nodes in the result set. The
// recommended result limit for FINDNODE queries is 16 nodes."
func TestFindNodeLimit(t *testing.T) {
	inBubble(t, discv5.Config{BucketIPLimit: -1, TableIPLimit: -1, ChallengesPerIP: -1}, func(r *rig) {
		asker := r.newPeer("192.0.2.1:30303")
		asker.connect()
		var peers []*peer
		for i := range 20 {
			p := r.newPeer(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i), 1}), 30303).String())
			p.connect()
			peers = append(peers, p)
		}
		answerPings(r, peers, 20*time.Second)
		all := make([]uint16, 0, 256)
		for d := uint16(256); d > 0; d-- {
			all = append(all, d)
		}
		asker.deliver(asker.addr, asker.message(wire.Message{Kind: wire.KindFindNode, ReqID: wire.NewReqID(9), Distances: all}))
		n, total := 0, uint64(0)
		for _, got := range asker.received() {
			if got.msg != nil && got.msg.Kind == wire.KindNodes {
				n += len(got.msg.Records)
				total = got.msg.Total
			}
		}
		if n != 16 || total > 5 || total == 0 {
			t.Errorf("%d records in %d packets, want 16 in at most 5", n, total)
		}
	})
}

// "If the protocol is unknown to the recipient, it must respond with a
// TALKRESP response containing empty response data."
func TestTalkUnknownProtocol(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		p.deliver(p.addr, p.message(wire.Message{Kind: wire.KindTalkReq, ReqID: wire.NewReqID(3), Protocol: []byte("nosuch"), Payload: []byte("hi")}))
		if got := p.wantMessages(wire.KindTalkResp); len(got) != 1 || len(got[0].Payload) != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// A handler has 100 ms; 32 may run at once and 256 wait.
func TestTalkHandlersAreBounded(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		release := make(chan struct{})
		if err := r.node.RegisterTalkProtocol("slow", func(_ context.Context, _ discv5.TalkRequest) []byte {
			<-release
			return []byte("late")
		}); err != nil {
			t.Fatal(err)
		}
		for i := range 32 + 256 + 8 {
			p.deliver(p.addr, p.message(wire.Message{Kind: wire.KindTalkReq, ReqID: wire.NewReqID(uint64(i)), Protocol: []byte("slow")}))
		}
		p.wantIdle("requests being handled")
		p.deliver(p.addr, p.message(ping(99)))
		p.wantMessages(wire.KindPong)
		time.Sleep(150 * time.Millisecond)
		got := 0
		for _, m := range p.received() {
			if m.msg != nil && m.msg.Kind == wire.KindTalkResp {
				got++
				if len(m.msg.Payload) != 0 {
					t.Errorf("answer %q", m.msg.Payload)
				}
			}
		}
		if s := r.node.Stats(); got != 288 || s.TalksDropped != 8 || s.TalksTimedOut != 288 {
			t.Errorf("%d answers, %d dropped, %d timed out; want 288, 8, 288", got, s.TalksDropped, s.TalksTimedOut)
		}
		close(release)
		synctest.Wait()
		for _, m := range p.received() {
			if m.msg != nil && m.msg.Kind == wire.KindTalkResp {
				t.Error("a second answer was sent")
			}
		}
	})
}

// Late, repeated and unasked-for answers change nothing and are counted.
func TestUnsolicitedAnswers(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		fake := r.newPeer("198.51.101.1:30303")
		for _, m := range []wire.Message{
			{Kind: wire.KindPong, ReqID: wire.NewReqID(1), To: p.addr},
			{Kind: wire.KindNodes, ReqID: wire.NewReqID(1), Total: 1, Records: [][]byte{fake.record.Bytes()}},
			{Kind: wire.KindTalkResp, ReqID: wire.NewReqID(1)},
		} {
			before := r.node.Stats().Unsolicited
			p.deliver(p.addr, p.message(m))
			if got := r.node.Stats().Unsolicited; got != before+1 {
				t.Errorf("unsolicited %s: counter goes from %d to %d", m.Kind, before, got)
			}
		}
		for _, e := range r.node.Table() {
			if e.Record.ID() == fake.id {
				t.Error("a node came in by unsolicited NODES")
			}
		}
	})
}

// Topic messages are dropped in silence.
func TestTopicMessages(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		for kind := byte(7); kind <= 0x0b; kind++ {
			pt := []byte{kind, 0xc2, 0x01, 0x80}
			b := p.raw(pt)
			p.deliver(p.addr, b)
			p.wantIdle("a topic message")
		}
		if s := r.node.Stats(); s.TopicMessages != 4 || s.MessagesInvalid != 1 {
			t.Errorf("%d topic messages, %d invalid; want 4, 1", s.TopicMessages, s.MessagesInvalid)
		}
	})
}

// raw returns a message packet with any plaintext.
func (p *peer) raw(plaintext []byte) []byte {
	nonce := p.nonce()
	iv := random16()
	masked := p.codec.AppendRandom(nil, p.mask, iv, nonce, nil)
	// The additional data is the header before masking, which the node's own
	// codec restores.
	header := bytes.Clone(masked)
	var h wire.Header
	_, _ = wire.NewCodec(p.node.ID()).Unmask(append(header, make([]byte, 16)...), &h)
	plain := append(header, make([]byte, 16)...)
	_, _ = wire.NewCodec(p.node.ID()).Unmask(plain, &h)
	return append(masked, p.write.Seal(nil, nonce[:], plaintext, plain[:len(masked)])...)
}

// nodesAnswer has the node ask p for distances and p answer with messages.
func (p *peer) nodesAnswer(distances []int, answer func(id wire.ReqID) []wire.Message) ([]*enr.Record, error) {
	p.t.Helper()
	type result struct {
		records []*enr.Record
		err     error
	}
	done := make(chan result, 1)
	go func() {
		records, err := p.node.FindNode(p.t.Context(), p.record, distances...)
		done <- result{records, err}
	}()
	for _, got := range p.received() {
		if got.msg == nil || got.msg.Kind != wire.KindFindNode || len(got.msg.Distances) != len(distances) {
			continue
		}
		for _, m := range answer(got.msg.ReqID) {
			p.deliver(p.addr, p.message(m))
		}
	}
	r := <-done
	return r.records, r.err
}

// "When handling NODES as a response to FINDNODE, the recipient should verify
// that the received nodes match the requested distances."
func TestNodesAreChecked(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		at := func(addr string, d int) *peer { // a peer at distance d from p
			for {
				if q := r.newPeer(addr); enr.LogDistance(p.id, q.id) == d {
					return q
				}
			}
		}
		good, far := at("198.51.101.1:30303", 256), at("198.51.101.2:30303", 255)
		lan, loop := at("192.168.1.1:30303", 256), at("127.0.0.1:30303", 256)
		nowhere, multicast := at("0.0.0.0:30303", 256), at("224.0.0.1:30303", 256)
		forged := bytes.Clone(good.record.Bytes())
		forged[20] ^= 1
		got, err := p.nodesAnswer([]int{256}, func(id wire.ReqID) []wire.Message {
			return []wire.Message{{Kind: wire.KindNodes, ReqID: id, Total: 1, Records: [][]byte{
				far.record.Bytes(), lan.record.Bytes(), loop.record.Bytes(), nowhere.record.Bytes(), multicast.record.Bytes(),
				forged, good.record.Bytes(), good.record.Bytes(),
			}}}
		})
		if err != nil || len(got) != 1 || got[0].ID() != good.id {
			t.Errorf("got %d records, %v; want one", len(got), err)
		}
	})
}

// "Implementations may place a limit on the allowed maximum for total. If
// exceeded, additional responses may be ignored." An answer cannot keep a
// request open past its time.
func TestNodesTotal(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		empty := func(id wire.ReqID, total uint64, n int) (out []wire.Message) {
			for range n {
				out = append(out, wire.Message{Kind: wire.KindNodes, ReqID: id, Total: total})
			}
			return out
		}
		for _, tt := range []struct {
			name  string
			total uint64
			sent  int
			most  time.Duration
		}{
			{"all came", 3, 3, 0},
			{"more than are read", 255, 100, 0},
			{"one is lost", 3, 2, time.Second},
			{"a number beyond all reason", 1 << 60, 1, time.Second},
		} {
			start := time.Now()
			if _, err := p.nodesAnswer([]int{256}, func(id wire.ReqID) []wire.Message { return empty(id, tt.total, tt.sent) }); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			if d := time.Since(start); d > tt.most {
				t.Errorf("%s: took %s, want at most %s", tt.name, d, tt.most)
			}
		}
		p.received()
	})
}

// "When the PONG response indicates that a new version of the node record is
// available, the liveness check should pull the new record and update it in
// the local table."
func TestRecordIsPulled(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		p.connect()
		p.alive()
		p.setRecord(9, p.addr)
		p.deliver(p.addr, p.message(wire.Message{Kind: wire.KindPing, ReqID: wire.NewReqID(1), Seq: 9}))
		asked := 0
		for _, got := range p.received() {
			if got.msg != nil && got.msg.Kind == wire.KindFindNode && slices.Equal(got.msg.Distances, []uint16{0}) {
				asked++
				p.deliver(p.addr, p.message(wire.Message{Kind: wire.KindNodes, ReqID: got.msg.ReqID, Total: 1, Records: [][]byte{p.record.Bytes()}}))
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times for the record, want once", asked)
		}
		for _, e := range r.node.Table() {
			if e.Record.ID() == p.id && (e.Record.Seq() != 9 || !e.Alive) {
				t.Errorf("record %d in the table, alive %t; want 9, true", e.Record.Seq(), e.Alive)
			}
		}
	})
}

// An answer that names no endpoint of ours within the time is a time-out, and
// nothing is sent again: "Implementations should not re-send packets if the
// recipient doesn't respond."
func TestNothingIsSentAgain(t *testing.T) {
	inBubble(t, discv5.Config{}, func(r *rig) {
		p := r.newPeer(peerAddr)
		start := time.Now()
		if _, err := r.node.Ping(r.t.Context(), p.record); !errors.Is(err, discv5.ErrTimeout) {
			t.Errorf("error %v, want %v", err, discv5.ErrTimeout)
		}
		if d := time.Since(start); d != discv5.DefaultHandshakeTimeout {
			t.Errorf("no WHOAREYOU: gave up after %s, want %s", d, discv5.DefaultHandshakeTimeout)
		}
		if n := len(r.sent()); n != 1 {
			t.Errorf("%d packets sent, want 1", n)
		}
		p.connect()
		r.sent()
		start = time.Now()
		if _, err := r.node.TalkRequest(r.t.Context(), p.record, "x", nil); !errors.Is(err, discv5.ErrTimeout) {
			t.Errorf("error %v, want %v", err, discv5.ErrTimeout)
		}
		if d := time.Since(start); d != discv5.DefaultResponseTimeout {
			t.Errorf("no answer: gave up after %s, want %s", d, discv5.DefaultResponseTimeout)
		}
	})
}
