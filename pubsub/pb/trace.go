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
