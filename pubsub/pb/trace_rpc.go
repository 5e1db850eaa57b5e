package pubsub_pb

// What trace events say of RPCs, payloads left out.

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
