package discv5

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/muster-p2p/muster/enr"
)

// A TalkRequest is a request of another node to a talk protocol.
type TalkRequest struct {
	From    enr.ID // authenticated
	Addr    netip.AddrPort
	Payload []byte // the handler's to keep
}

// A TalkHandler answers requests of one talk protocol, several at once. It
// has 100 ms, after which ctx ends and the asker gets an empty answer. The
// answer must fit a packet, 1177 bytes, or an empty one is sent.
type TalkHandler func(ctx context.Context, req TalkRequest) []byte

// RegisterTalkProtocol has h answer the requests for protocol. Each protocol
// has one handler; a nil h ends that.
func (n *Node) RegisterTalkProtocol(protocol string, h TalkHandler) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	handlers := n.core.talks.handlers
	if h == nil {
		delete(handlers, protocol)
		return nil
	}
	if handlers[protocol] != nil {
		return errors.New("discv5: talk protocol is registered already")
	}
	handlers[protocol] = h
	return nil
}

// talk runs the handler of one request.
func (n *Node) talk(call *talkCall) {
	ctx, cancel := context.WithDeadline(n.ctx, call.due)
	answer := call.handler(ctx, TalkRequest{From: call.at.id, Addr: call.at.addr, Payload: call.payload})
	cancel()
	out := n.outbox()
	n.mu.Lock()
	n.core.answerTalk(time.Now(), call, answer, out)
	n.mu.Unlock()
	n.done(out)
}
