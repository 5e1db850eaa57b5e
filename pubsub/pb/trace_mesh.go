package pubsub_pb

// What trace events say of streams, topics and the mesh.

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
