package discv5

import (
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
)

const (
	// maxTalks bounds the TALKREQ being handled at once.
	maxTalks = 32

	// maxWaitingTalks bounds those that wait for one of these places: a burst
	// of requests is served, a flood holds 300 kB. More are dropped: the asker
	// sees a time-out.
	maxWaitingTalks = 256

	// talkTimeout is how long a handler has. After that the asker gets the
	// empty answer, and the handler's place stays taken until it returns.
	talkTimeout = 100 * time.Millisecond
)

// A talkBook holds the registered protocols and the requests being handled.
type talkBook struct {
	handlers map[string]TalkHandler
	calls    []*talkCall // not yet answered, oldest first
	waiting  []*talkCall // of these, those without a handler yet
	running  int         // handlers that have not returned
}

// A talkCall is a TALKREQ in the hands of its handler.
type talkCall struct {
	at       endpoint
	id       wire.ReqID
	handler  TalkHandler
	payload  []byte
	due      time.Time
	answered bool
}

// handleTalkReq hands the request to its protocol. "If the protocol is
// unknown to the recipient, it must respond with a TALKRESP response
// containing empty response data."
func (c *core) handleTalkReq(now time.Time, s *session, k *keyset, m *wire.Message) {
	h := c.talks.handlers[string(m.Protocol)]
	if h == nil {
		c.reply = wire.Message{Kind: wire.KindTalkResp, ReqID: m.ReqID, Records: c.reply.Records}
		c.respond(s, k)
		return
	}
	if c.talks.running >= maxTalks && len(c.talks.waiting) >= maxWaitingTalks {
		c.stats.TalksDropped++
		return
	}
	call := &talkCall{
		at: s.at, id: m.ReqID, handler: h,
		payload: append([]byte(nil), m.Payload...), due: now.Add(talkTimeout),
	}
	c.talks.calls = append(c.talks.calls, call)
	c.talks.waiting = append(c.talks.waiting, call)
	c.startTalks()
	if call.due.Before(c.wake) {
		c.out.kick = true
	}
}

// startTalks hands waiting requests to their handlers while there are places.
// Those that have waited too long have had their answer.
func (c *core) startTalks() {
	b := &c.talks
	for len(b.waiting) > 0 && b.running < maxTalks {
		call := b.waiting[0]
		b.waiting[0] = nil
		b.waiting = b.waiting[1:]
		if !call.answered {
			b.running++
			c.out.calls = append(c.out.calls, call)
		}
	}
}

// answerTalk sends the answer of a handler that has returned.
func (c *core) answerTalk(now time.Time, call *talkCall, payload []byte, out *outbox) {
	c.out = out
	c.talks.running--
	for i, o := range c.talks.calls {
		if o == call {
			c.talks.calls = append(c.talks.calls[:i], c.talks.calls[i+1:]...)
			break
		}
	}
	if !call.answered {
		c.sendTalk(now, call, payload)
	}
	c.startTalks()
}

// sendTalk sends an answer under the session as it is now. An answer that
// does not fit a packet is sent as an empty one, so that the asker need not
// wait.
func (c *core) sendTalk(now time.Time, call *talkCall, payload []byte) {
	call.answered = true
	s := c.sessions.get(call.at)
	if !c.sessions.answerable(now, s) {
		return
	}
	c.reply = wire.Message{Kind: wire.KindTalkResp, ReqID: call.id, Payload: payload, Records: c.reply.Records}
	if c.reply.Size() > wire.MaxPlaintext {
		c.stats.TalksTooLarge++
		c.reply.Payload = nil
	}
	c.respond(s, &s.current)
}

func (b *talkBook) next() time.Time {
	if len(b.calls) == 0 {
		return time.Time{}
	}
	return b.calls[0].due
}

// expire answers for the handlers that take too long.
func (b *talkBook) expire(now time.Time, c *core) {
	for len(b.calls) > 0 && !b.calls[0].due.After(now) {
		call := b.calls[0]
		b.calls = b.calls[1:]
		c.stats.TalksTimedOut++
		c.sendTalk(now, call, nil)
	}
}
