package pubsub_pb

// What trace events say of messages.

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
