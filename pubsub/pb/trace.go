package pubsub_pb

// Trace events, as go-libp2p-pubsub has them. The names of types follow its
// generated code.
//
// https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md

// TraceEvent_Type says what happened.
type TraceEvent_Type int32

// What can happen.
const (
	TraceEvent_PUBLISH_MESSAGE           TraceEvent_Type = 0
	TraceEvent_REJECT_MESSAGE            TraceEvent_Type = 1
	TraceEvent_DUPLICATE_MESSAGE         TraceEvent_Type = 2
	TraceEvent_DELIVER_MESSAGE           TraceEvent_Type = 3
	TraceEvent_ON_NEW_OUTBOUND_STREAM    TraceEvent_Type = 4
	TraceEvent_ON_CLOSED_OUTBOUND_STREAM TraceEvent_Type = 5
	TraceEvent_RECV_RPC                  TraceEvent_Type = 6
	TraceEvent_SEND_RPC                  TraceEvent_Type = 7
	TraceEvent_DROP_RPC                  TraceEvent_Type = 8
	TraceEvent_JOIN                      TraceEvent_Type = 9
	TraceEvent_LEAVE                     TraceEvent_Type = 10
	TraceEvent_GRAFT                     TraceEvent_Type = 11
	TraceEvent_PRUNE                     TraceEvent_Type = 12
)

// Enum returns a pointer to a copy of t.
func (t TraceEvent_Type) Enum() *TraceEvent_Type { return &t }

var traceTypes = [...]string{
	"PUBLISH_MESSAGE",
	"REJECT_MESSAGE",
	"DUPLICATE_MESSAGE",
	"DELIVER_MESSAGE",
	"ON_NEW_OUTBOUND_STREAM",
	"ON_CLOSED_OUTBOUND_STREAM",
	"RECV_RPC",
	"SEND_RPC",
	"DROP_RPC",
	"JOIN",
	"LEAVE",
	"GRAFT",
	"PRUNE",
}

// String returns the name of t as it stands in the schema.
func (t TraceEvent_Type) String() string {
	if t < 0 || int(t) >= len(traceTypes) {
		return "UNKNOWN"
	}
	return traceTypes[t]
}

// TraceEvent is one event. Timestamp is in nanoseconds since 1970, and the part that Type names is set.
type TraceEvent struct {
	Type                   *TraceEvent_Type                   `json:"type,omitempty" pb:"1"`
	PeerID                 []byte                             `json:"peerID,omitempty" pb:"2"`
	Timestamp              *int64                             `json:"timestamp,omitempty" pb:"3"`
	PublishMessage         *TraceEvent_PublishMessage         `json:"publishMessage,omitempty" pb:"4"`
	RejectMessage          *TraceEvent_RejectMessage          `json:"rejectMessage,omitempty" pb:"5"`
	DuplicateMessage       *TraceEvent_DuplicateMessage       `json:"duplicateMessage,omitempty" pb:"6"`
	DeliverMessage         *TraceEvent_DeliverMessage         `json:"deliverMessage,omitempty" pb:"7"`
	OnNewOutboundStream    *TraceEvent_OnNewOutboundStream    `json:"onNewOutboundStream,omitempty" pb:"8"`
	OnClosedOutboundStream *TraceEvent_OnClosedOutboundStream `json:"onClosedOutboundStream,omitempty" pb:"9"`
	RecvRPC                *TraceEvent_RecvRPC                `json:"recvRPC,omitempty" pb:"10"`
	SendRPC                *TraceEvent_SendRPC                `json:"sendRPC,omitempty" pb:"11"`
	DropRPC                *TraceEvent_DropRPC                `json:"dropRPC,omitempty" pb:"12"`
	Join                   *TraceEvent_Join                   `json:"join,omitempty" pb:"13"`
	Leave                  *TraceEvent_Leave                  `json:"leave,omitempty" pb:"14"`
	Graft                  *TraceEvent_Graft                  `json:"graft,omitempty" pb:"15"`
	Prune                  *TraceEvent_Prune                  `json:"prune,omitempty" pb:"16"`
}

// GetType returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetType() TraceEvent_Type {
	if m == nil || m.Type == nil {
		return TraceEvent_PUBLISH_MESSAGE
	}
	return *m.Type
}

// GetPeerID returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetPeerID() []byte {
	if m == nil {
		return nil
	}
	return m.PeerID
}

// GetTimestamp returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetTimestamp() int64 {
	if m == nil || m.Timestamp == nil {
		return 0
	}
	return *m.Timestamp
}

// GetPublishMessage returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetPublishMessage() *TraceEvent_PublishMessage {
	if m == nil {
		return nil
	}
	return m.PublishMessage
}

// GetRejectMessage returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetRejectMessage() *TraceEvent_RejectMessage {
	if m == nil {
		return nil
	}
	return m.RejectMessage
}

// GetDuplicateMessage returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetDuplicateMessage() *TraceEvent_DuplicateMessage {
	if m == nil {
		return nil
	}
	return m.DuplicateMessage
}

// GetDeliverMessage returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetDeliverMessage() *TraceEvent_DeliverMessage {
	if m == nil {
		return nil
	}
	return m.DeliverMessage
}

// GetOnNewOutboundStream returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetOnNewOutboundStream() *TraceEvent_OnNewOutboundStream {
	if m == nil {
		return nil
	}
	return m.OnNewOutboundStream
}

// GetOnClosedOutboundStream returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetOnClosedOutboundStream() *TraceEvent_OnClosedOutboundStream {
	if m == nil {
		return nil
	}
	return m.OnClosedOutboundStream
}

// GetRecvRPC returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetRecvRPC() *TraceEvent_RecvRPC {
	if m == nil {
		return nil
	}
	return m.RecvRPC
}

// GetSendRPC returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetSendRPC() *TraceEvent_SendRPC {
	if m == nil {
		return nil
	}
	return m.SendRPC
}

// GetDropRPC returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetDropRPC() *TraceEvent_DropRPC {
	if m == nil {
		return nil
	}
	return m.DropRPC
}

// GetJoin returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetJoin() *TraceEvent_Join {
	if m == nil {
		return nil
	}
	return m.Join
}

// GetLeave returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetLeave() *TraceEvent_Leave {
	if m == nil {
		return nil
	}
	return m.Leave
}

// GetGraft returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetGraft() *TraceEvent_Graft {
	if m == nil {
		return nil
	}
	return m.Graft
}

// GetPrune returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent) GetPrune() *TraceEvent_Prune {
	if m == nil {
		return nil
	}
	return m.Prune
}

// Reset makes m the zero value.
func (m *TraceEvent) Reset() { *m = TraceEvent{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent) String() string { return describe(m) }

// TraceEvent_PublishMessage is a message that was published here.
type TraceEvent_PublishMessage struct {
	MessageID []byte  `json:"messageID,omitempty" pb:"1"`
	Topic     *string `json:"topic,omitempty" pb:"2"`
}

// GetMessageID returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_PublishMessage) GetMessageID() []byte {
	if m == nil {
		return nil
	}
	return m.MessageID
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_PublishMessage) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// Reset makes m the zero value.
func (m *TraceEvent_PublishMessage) Reset() { *m = TraceEvent_PublishMessage{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_PublishMessage) String() string { return describe(m) }

// TraceEvent_RejectMessage is a message that was not accepted.
type TraceEvent_RejectMessage struct {
	MessageID    []byte  `json:"messageID,omitempty" pb:"1"`
	ReceivedFrom []byte  `json:"receivedFrom,omitempty" pb:"2"`
	Reason       *string `json:"reason,omitempty" pb:"3"`
	Topic        *string `json:"topic,omitempty" pb:"4"`
}

// GetMessageID returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_RejectMessage) GetMessageID() []byte {
	if m == nil {
		return nil
	}
	return m.MessageID
}

// GetReceivedFrom returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_RejectMessage) GetReceivedFrom() []byte {
	if m == nil {
		return nil
	}
	return m.ReceivedFrom
}

// GetReason returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_RejectMessage) GetReason() string {
	if m == nil || m.Reason == nil {
		return ""
	}
	return *m.Reason
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_RejectMessage) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// Reset makes m the zero value.
func (m *TraceEvent_RejectMessage) Reset() { *m = TraceEvent_RejectMessage{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_RejectMessage) String() string { return describe(m) }

// TraceEvent_DuplicateMessage is a message that came again.
type TraceEvent_DuplicateMessage struct {
	MessageID    []byte  `json:"messageID,omitempty" pb:"1"`
	ReceivedFrom []byte  `json:"receivedFrom,omitempty" pb:"2"`
	Topic        *string `json:"topic,omitempty" pb:"3"`
}

// GetMessageID returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_DuplicateMessage) GetMessageID() []byte {
	if m == nil {
		return nil
	}
	return m.MessageID
}

// GetReceivedFrom returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_DuplicateMessage) GetReceivedFrom() []byte {
	if m == nil {
		return nil
	}
	return m.ReceivedFrom
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_DuplicateMessage) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// Reset makes m the zero value.
func (m *TraceEvent_DuplicateMessage) Reset() { *m = TraceEvent_DuplicateMessage{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_DuplicateMessage) String() string { return describe(m) }

// TraceEvent_DeliverMessage is a message that was accepted.
type TraceEvent_DeliverMessage struct {
	MessageID    []byte  `json:"messageID,omitempty" pb:"1"`
	Topic        *string `json:"topic,omitempty" pb:"2"`
	ReceivedFrom []byte  `json:"receivedFrom,omitempty" pb:"3"`
}

// GetMessageID returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_DeliverMessage) GetMessageID() []byte {
	if m == nil {
		return nil
	}
	return m.MessageID
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_DeliverMessage) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// GetReceivedFrom returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_DeliverMessage) GetReceivedFrom() []byte {
	if m == nil {
		return nil
	}
	return m.ReceivedFrom
}

// Reset makes m the zero value.
func (m *TraceEvent_DeliverMessage) Reset() { *m = TraceEvent_DeliverMessage{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_DeliverMessage) String() string { return describe(m) }

// TraceEvent_OnNewOutboundStream is a stream of ours that opened.
type TraceEvent_OnNewOutboundStream struct {
	PeerID []byte  `json:"peerID,omitempty" pb:"1"`
	Proto  *string `json:"proto,omitempty" pb:"2"`
}

// GetPeerID returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_OnNewOutboundStream) GetPeerID() []byte {
	if m == nil {
		return nil
	}
	return m.PeerID
}

// GetProto returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_OnNewOutboundStream) GetProto() string {
	if m == nil || m.Proto == nil {
		return ""
	}
	return *m.Proto
}

// Reset makes m the zero value.
func (m *TraceEvent_OnNewOutboundStream) Reset() { *m = TraceEvent_OnNewOutboundStream{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_OnNewOutboundStream) String() string { return describe(m) }

// TraceEvent_OnClosedOutboundStream is a stream of ours that ended.
type TraceEvent_OnClosedOutboundStream struct {
	PeerID []byte `json:"peerID,omitempty" pb:"1"`
}

// GetPeerID returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_OnClosedOutboundStream) GetPeerID() []byte {
	if m == nil {
		return nil
	}
	return m.PeerID
}

// Reset makes m the zero value.
func (m *TraceEvent_OnClosedOutboundStream) Reset() { *m = TraceEvent_OnClosedOutboundStream{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_OnClosedOutboundStream) String() string { return describe(m) }

// TraceEvent_RecvRPC is an RPC that was received.
type TraceEvent_RecvRPC struct {
	ReceivedFrom []byte              `json:"receivedFrom,omitempty" pb:"1"`
	Meta         *TraceEvent_RPCMeta `json:"meta,omitempty" pb:"2"`
}

// GetReceivedFrom returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_RecvRPC) GetReceivedFrom() []byte {
	if m == nil {
		return nil
	}
	return m.ReceivedFrom
}

// GetMeta returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_RecvRPC) GetMeta() *TraceEvent_RPCMeta {
	if m == nil {
		return nil
	}
	return m.Meta
}

// Reset makes m the zero value.
func (m *TraceEvent_RecvRPC) Reset() { *m = TraceEvent_RecvRPC{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_RecvRPC) String() string { return describe(m) }

// TraceEvent_SendRPC is an RPC that was sent.
type TraceEvent_SendRPC struct {
	SendTo []byte              `json:"sendTo,omitempty" pb:"1"`
	Meta   *TraceEvent_RPCMeta `json:"meta,omitempty" pb:"2"`
}

// GetSendTo returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_SendRPC) GetSendTo() []byte {
	if m == nil {
		return nil
	}
	return m.SendTo
}

// GetMeta returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_SendRPC) GetMeta() *TraceEvent_RPCMeta {
	if m == nil {
		return nil
	}
	return m.Meta
}

// Reset makes m the zero value.
func (m *TraceEvent_SendRPC) Reset() { *m = TraceEvent_SendRPC{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_SendRPC) String() string { return describe(m) }

// TraceEvent_DropRPC is an RPC, or a part of one, that was not sent.
type TraceEvent_DropRPC struct {
	SendTo []byte              `json:"sendTo,omitempty" pb:"1"`
	Meta   *TraceEvent_RPCMeta `json:"meta,omitempty" pb:"2"`
}

// GetSendTo returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_DropRPC) GetSendTo() []byte {
	if m == nil {
		return nil
	}
	return m.SendTo
}

// GetMeta returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_DropRPC) GetMeta() *TraceEvent_RPCMeta {
	if m == nil {
		return nil
	}
	return m.Meta
}

// Reset makes m the zero value.
func (m *TraceEvent_DropRPC) Reset() { *m = TraceEvent_DropRPC{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_DropRPC) String() string { return describe(m) }

// TraceEvent_Join is a topic that we entered.
type TraceEvent_Join struct {
	Topic *string `json:"topic,omitempty" pb:"1"`
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_Join) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// Reset makes m the zero value.
func (m *TraceEvent_Join) Reset() { *m = TraceEvent_Join{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_Join) String() string { return describe(m) }

// TraceEvent_Leave is a topic that we left.
type TraceEvent_Leave struct {
	Topic *string `json:"topic,omitempty" pb:"2"`
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_Leave) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// Reset makes m the zero value.
func (m *TraceEvent_Leave) Reset() { *m = TraceEvent_Leave{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_Leave) String() string { return describe(m) }

// TraceEvent_Graft is a peer that entered our mesh.
type TraceEvent_Graft struct {
	PeerID []byte  `json:"peerID,omitempty" pb:"1"`
	Topic  *string `json:"topic,omitempty" pb:"2"`
}

// GetPeerID returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_Graft) GetPeerID() []byte {
	if m == nil {
		return nil
	}
	return m.PeerID
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_Graft) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// Reset makes m the zero value.
func (m *TraceEvent_Graft) Reset() { *m = TraceEvent_Graft{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_Graft) String() string { return describe(m) }

// TraceEvent_Prune is a peer that left our mesh.
type TraceEvent_Prune struct {
	PeerID []byte  `json:"peerID,omitempty" pb:"1"`
	Topic  *string `json:"topic,omitempty" pb:"2"`
}

// GetPeerID returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_Prune) GetPeerID() []byte {
	if m == nil {
		return nil
	}
	return m.PeerID
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_Prune) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// Reset makes m the zero value.
func (m *TraceEvent_Prune) Reset() { *m = TraceEvent_Prune{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_Prune) String() string { return describe(m) }

// TraceEvent_RPCMeta is an RPC without its payloads.
type TraceEvent_RPCMeta struct {
	Messages     []*TraceEvent_MessageMeta `json:"messages,omitempty" pb:"1"`
	Subscription []*TraceEvent_SubMeta     `json:"subscription,omitempty" pb:"2"`
	Control      *TraceEvent_ControlMeta   `json:"control,omitempty" pb:"3"`
}

// GetMessages returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_RPCMeta) GetMessages() []*TraceEvent_MessageMeta {
	if m == nil {
		return nil
	}
	return m.Messages
}

// GetSubscription returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_RPCMeta) GetSubscription() []*TraceEvent_SubMeta {
	if m == nil {
		return nil
	}
	return m.Subscription
}

// GetControl returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_RPCMeta) GetControl() *TraceEvent_ControlMeta {
	if m == nil {
		return nil
	}
	return m.Control
}

// Reset makes m the zero value.
func (m *TraceEvent_RPCMeta) Reset() { *m = TraceEvent_RPCMeta{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_RPCMeta) String() string { return describe(m) }

// TraceEvent_MessageMeta is a message without its payload.
type TraceEvent_MessageMeta struct {
	MessageID []byte  `json:"messageID,omitempty" pb:"1"`
	Topic     *string `json:"topic,omitempty" pb:"2"`
}

// GetMessageID returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_MessageMeta) GetMessageID() []byte {
	if m == nil {
		return nil
	}
	return m.MessageID
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_MessageMeta) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// Reset makes m the zero value.
func (m *TraceEvent_MessageMeta) Reset() { *m = TraceEvent_MessageMeta{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_MessageMeta) String() string { return describe(m) }

// TraceEvent_SubMeta is a change of subscription.
type TraceEvent_SubMeta struct {
	Subscribe *bool   `json:"subscribe,omitempty" pb:"1"`
	Topic     *string `json:"topic,omitempty" pb:"2"`
}

// GetSubscribe returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_SubMeta) GetSubscribe() bool {
	if m == nil || m.Subscribe == nil {
		return false
	}
	return *m.Subscribe
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_SubMeta) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// Reset makes m the zero value.
func (m *TraceEvent_SubMeta) Reset() { *m = TraceEvent_SubMeta{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_SubMeta) String() string { return describe(m) }

// TraceEvent_ControlMeta is the control part of an RPC.
type TraceEvent_ControlMeta struct {
	Ihave     []*TraceEvent_ControlIHaveMeta     `json:"ihave,omitempty" pb:"1"`
	Iwant     []*TraceEvent_ControlIWantMeta     `json:"iwant,omitempty" pb:"2"`
	Graft     []*TraceEvent_ControlGraftMeta     `json:"graft,omitempty" pb:"3"`
	Prune     []*TraceEvent_ControlPruneMeta     `json:"prune,omitempty" pb:"4"`
	Idontwant []*TraceEvent_ControlIDontWantMeta `json:"idontwant,omitempty" pb:"5"`
}

// GetIhave returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_ControlMeta) GetIhave() []*TraceEvent_ControlIHaveMeta {
	if m == nil {
		return nil
	}
	return m.Ihave
}

// GetIwant returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_ControlMeta) GetIwant() []*TraceEvent_ControlIWantMeta {
	if m == nil {
		return nil
	}
	return m.Iwant
}

// GetGraft returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_ControlMeta) GetGraft() []*TraceEvent_ControlGraftMeta {
	if m == nil {
		return nil
	}
	return m.Graft
}

// GetPrune returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_ControlMeta) GetPrune() []*TraceEvent_ControlPruneMeta {
	if m == nil {
		return nil
	}
	return m.Prune
}

// GetIdontwant returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_ControlMeta) GetIdontwant() []*TraceEvent_ControlIDontWantMeta {
	if m == nil {
		return nil
	}
	return m.Idontwant
}

// Reset makes m the zero value.
func (m *TraceEvent_ControlMeta) Reset() { *m = TraceEvent_ControlMeta{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_ControlMeta) String() string { return describe(m) }

// TraceEvent_ControlIHaveMeta is an IHAVE.
type TraceEvent_ControlIHaveMeta struct {
	Topic      *string  `json:"topic,omitempty" pb:"1"`
	MessageIDs [][]byte `json:"messageIDs,omitempty" pb:"2"`
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_ControlIHaveMeta) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// GetMessageIDs returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_ControlIHaveMeta) GetMessageIDs() [][]byte {
	if m == nil {
		return nil
	}
	return m.MessageIDs
}

// Reset makes m the zero value.
func (m *TraceEvent_ControlIHaveMeta) Reset() { *m = TraceEvent_ControlIHaveMeta{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_ControlIHaveMeta) String() string { return describe(m) }

// TraceEvent_ControlIWantMeta is an IWANT.
type TraceEvent_ControlIWantMeta struct {
	MessageIDs [][]byte `json:"messageIDs,omitempty" pb:"1"`
}

// GetMessageIDs returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_ControlIWantMeta) GetMessageIDs() [][]byte {
	if m == nil {
		return nil
	}
	return m.MessageIDs
}

// Reset makes m the zero value.
func (m *TraceEvent_ControlIWantMeta) Reset() { *m = TraceEvent_ControlIWantMeta{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_ControlIWantMeta) String() string { return describe(m) }

// TraceEvent_ControlGraftMeta is a GRAFT.
type TraceEvent_ControlGraftMeta struct {
	Topic *string `json:"topic,omitempty" pb:"1"`
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_ControlGraftMeta) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// Reset makes m the zero value.
func (m *TraceEvent_ControlGraftMeta) Reset() { *m = TraceEvent_ControlGraftMeta{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_ControlGraftMeta) String() string { return describe(m) }

// TraceEvent_ControlPruneMeta is a PRUNE.
type TraceEvent_ControlPruneMeta struct {
	Topic *string  `json:"topic,omitempty" pb:"1"`
	Peers [][]byte `json:"peers,omitempty" pb:"2"`
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_ControlPruneMeta) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// GetPeers returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_ControlPruneMeta) GetPeers() [][]byte {
	if m == nil {
		return nil
	}
	return m.Peers
}

// Reset makes m the zero value.
func (m *TraceEvent_ControlPruneMeta) Reset() { *m = TraceEvent_ControlPruneMeta{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_ControlPruneMeta) String() string { return describe(m) }

// TraceEvent_ControlIDontWantMeta is an IDONTWANT.
type TraceEvent_ControlIDontWantMeta struct {
	MessageIDs [][]byte `json:"messageIDs,omitempty" pb:"1"`
}

// GetMessageIDs returns the field, or its zero value if m or the field is nil.
func (m *TraceEvent_ControlIDontWantMeta) GetMessageIDs() [][]byte {
	if m == nil {
		return nil
	}
	return m.MessageIDs
}

// Reset makes m the zero value.
func (m *TraceEvent_ControlIDontWantMeta) Reset() { *m = TraceEvent_ControlIDontWantMeta{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEvent_ControlIDontWantMeta) String() string { return describe(m) }

// TraceEventBatch is a batch of events.
type TraceEventBatch struct {
	Batch []*TraceEvent `json:"batch,omitempty" pb:"1"`
}

// GetBatch returns the field, or its zero value if m or the field is nil.
func (m *TraceEventBatch) GetBatch() []*TraceEvent {
	if m == nil {
		return nil
	}
	return m.Batch
}

// Reset makes m the zero value.
func (m *TraceEventBatch) Reset() { *m = TraceEventBatch{} }

// String describes m for logs and tests; its form is not fixed.
func (m *TraceEventBatch) String() string { return describe(m) }
