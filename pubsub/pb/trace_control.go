package pubsub_pb

// What trace events say of the control part of an RPC.

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
