package pubsub_pb

// RPC is one frame: what a peer says at once.
type RPC struct {
	Subscriptions []*RPC_SubOpts
	Publish       []*Message
	Control       *ControlMessage
}

// GetSubscriptions returns the field, or its zero value if m or the field is nil.
func (m *RPC) GetSubscriptions() []*RPC_SubOpts {
	if m == nil {
		return nil
	}
	return m.Subscriptions
}

// GetPublish returns the field, or its zero value if m or the field is nil.
func (m *RPC) GetPublish() []*Message {
	if m == nil {
		return nil
	}
	return m.Publish
}

// GetControl returns the field, or its zero value if m or the field is nil.
func (m *RPC) GetControl() *ControlMessage {
	if m == nil {
		return nil
	}
	return m.Control
}

// Reset makes m the zero value.
func (m *RPC) Reset() { *m = RPC{} }

// String describes m for logs and tests; its form is not fixed.
func (m *RPC) String() string { return describe(m) }

// RPC_SubOpts is a change of the sender's subscriptions.
type RPC_SubOpts struct {
	Subscribe              *bool
	Topicid                *string
	RequestsPartial        *bool
	SupportsSendingPartial *bool
}

// GetSubscribe returns the field, or its zero value if m or the field is nil.
func (m *RPC_SubOpts) GetSubscribe() bool {
	if m == nil || m.Subscribe == nil {
		return false
	}
	return *m.Subscribe
}

// GetTopicid returns the field, or its zero value if m or the field is nil.
func (m *RPC_SubOpts) GetTopicid() string {
	if m == nil || m.Topicid == nil {
		return ""
	}
	return *m.Topicid
}

// GetRequestsPartial returns the field, or its zero value if m or the field is nil.
func (m *RPC_SubOpts) GetRequestsPartial() bool {
	if m == nil || m.RequestsPartial == nil {
		return false
	}
	return *m.RequestsPartial
}

// GetSupportsSendingPartial returns the field, or its zero value if m or the field is nil.
func (m *RPC_SubOpts) GetSupportsSendingPartial() bool {
	if m == nil || m.SupportsSendingPartial == nil {
		return false
	}
	return *m.SupportsSendingPartial
}

// Reset makes m the zero value.
func (m *RPC_SubOpts) Reset() { *m = RPC_SubOpts{} }

// String describes m for logs and tests; its form is not fixed.
func (m *RPC_SubOpts) String() string { return describe(m) }

// Message is a published message. Its byte slices may be views into a received frame:
// read them, do not change them.
type Message struct {
	From      []byte
	Data      []byte
	Seqno     []byte
	Topic     *string
	Signature []byte
	Key       []byte
}

// GetFrom returns the field, or its zero value if m or the field is nil.
func (m *Message) GetFrom() []byte {
	if m == nil {
		return nil
	}
	return m.From
}

// GetData returns the field, or its zero value if m or the field is nil.
func (m *Message) GetData() []byte {
	if m == nil {
		return nil
	}
	return m.Data
}

// GetSeqno returns the field, or its zero value if m or the field is nil.
func (m *Message) GetSeqno() []byte {
	if m == nil {
		return nil
	}
	return m.Seqno
}

// GetTopic returns the field, or its zero value if m or the field is nil.
func (m *Message) GetTopic() string {
	if m == nil || m.Topic == nil {
		return ""
	}
	return *m.Topic
}

// GetSignature returns the field, or its zero value if m or the field is nil.
func (m *Message) GetSignature() []byte {
	if m == nil {
		return nil
	}
	return m.Signature
}

// GetKey returns the field, or its zero value if m or the field is nil.
func (m *Message) GetKey() []byte {
	if m == nil {
		return nil
	}
	return m.Key
}

// Reset makes m the zero value.
func (m *Message) Reset() { *m = Message{} }

// String describes m for logs and tests; its form is not fixed.
func (m *Message) String() string { return describe(m) }
