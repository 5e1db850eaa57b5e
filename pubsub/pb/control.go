package pubsub_pb

// ControlMessage is the part of an RPC that keeps the mesh.
type ControlMessage struct {
	Ihave      []*ControlIHave
	Iwant      []*ControlIWant
	Graft      []*ControlGraft
	Prune      []*ControlPrune
	Idontwant  []*ControlIDontWant
	Extensions *ControlExtensions
}

// GetIhave returns the field, or its zero value if m or the field is nil.
func (m *ControlMessage) GetIhave() []*ControlIHave {
	if m == nil {
		return nil
	}
	return m.Ihave
}

// GetIwant returns the field, or its zero value if m or the field is nil.
func (m *ControlMessage) GetIwant() []*ControlIWant {
	if m == nil {
		return nil
	}
	return m.Iwant
}

// GetGraft returns the field, or its zero value if m or the field is nil.
func (m *ControlMessage) GetGraft() []*ControlGraft {
	if m == nil {
		return nil
	}
	return m.Graft
}

// GetPrune returns the field, or its zero value if m or the field is nil.
func (m *ControlMessage) GetPrune() []*ControlPrune {
	if m == nil {
		return nil
	}
	return m.Prune
}

// GetIdontwant returns the field, or its zero value if m or the field is nil.
func (m *ControlMessage) GetIdontwant() []*ControlIDontWant {
	if m == nil {
		return nil
	}
	return m.Idontwant
}

// GetExtensions returns the field, or its zero value if m or the field is nil.
func (m *ControlMessage) GetExtensions() *ControlExtensions {
	if m == nil {
		return nil
	}
	return m.Extensions
}

// Reset makes m the zero value.
func (m *ControlMessage) Reset() { *m = ControlMessage{} }

// String describes m for logs and tests; its form is not fixed.
func (m *ControlMessage) String() string { return describe(m) }

// ControlIHave announces messages of a topic. Message ids are bytes, not text.
type ControlIHave struct {
	TopicID    *string
	MessageIDs []string
}

// GetTopicID returns the field, or its zero value if m or the field is nil.
func (m *ControlIHave) GetTopicID() string {
	if m == nil || m.TopicID == nil {
		return ""
	}
	return *m.TopicID
}

// GetMessageIDs returns the field, or its zero value if m or the field is nil.
func (m *ControlIHave) GetMessageIDs() []string {
	if m == nil {
		return nil
	}
	return m.MessageIDs
}

// Reset makes m the zero value.
func (m *ControlIHave) Reset() { *m = ControlIHave{} }

// String describes m for logs and tests; its form is not fixed.
func (m *ControlIHave) String() string { return describe(m) }

// ControlIWant asks for announced messages.
type ControlIWant struct {
	MessageIDs []string
}

// GetMessageIDs returns the field, or its zero value if m or the field is nil.
func (m *ControlIWant) GetMessageIDs() []string {
	if m == nil {
		return nil
	}
	return m.MessageIDs
}

// Reset makes m the zero value.
func (m *ControlIWant) Reset() { *m = ControlIWant{} }

// String describes m for logs and tests; its form is not fixed.
func (m *ControlIWant) String() string { return describe(m) }

// ControlGraft adds the receiver to the sender's mesh of a topic.
type ControlGraft struct {
	TopicID *string
}

// GetTopicID returns the field, or its zero value if m or the field is nil.
func (m *ControlGraft) GetTopicID() string {
	if m == nil || m.TopicID == nil {
		return ""
	}
	return *m.TopicID
}

// Reset makes m the zero value.
func (m *ControlGraft) Reset() { *m = ControlGraft{} }

// String describes m for logs and tests; its form is not fixed.
func (m *ControlGraft) String() string { return describe(m) }

// ControlPrune removes the receiver from the sender's mesh of a topic. Backoff is in seconds.
type ControlPrune struct {
	TopicID *string
	Peers   []*PeerInfo
	Backoff *uint64
}

// GetTopicID returns the field, or its zero value if m or the field is nil.
func (m *ControlPrune) GetTopicID() string {
	if m == nil || m.TopicID == nil {
		return ""
	}
	return *m.TopicID
}

// GetPeers returns the field, or its zero value if m or the field is nil.
func (m *ControlPrune) GetPeers() []*PeerInfo {
	if m == nil {
		return nil
	}
	return m.Peers
}

// GetBackoff returns the field, or its zero value if m or the field is nil.
func (m *ControlPrune) GetBackoff() uint64 {
	if m == nil || m.Backoff == nil {
		return 0
	}
	return *m.Backoff
}

// Reset makes m the zero value.
func (m *ControlPrune) Reset() { *m = ControlPrune{} }

// String describes m for logs and tests; its form is not fixed.
func (m *ControlPrune) String() string { return describe(m) }

// ControlIDontWant declines messages.
type ControlIDontWant struct {
	MessageIDs []string
}

// GetMessageIDs returns the field, or its zero value if m or the field is nil.
func (m *ControlIDontWant) GetMessageIDs() []string {
	if m == nil {
		return nil
	}
	return m.MessageIDs
}

// Reset makes m the zero value.
func (m *ControlIDontWant) Reset() { *m = ControlIDontWant{} }

// String describes m for logs and tests; its form is not fixed.
func (m *ControlIDontWant) String() string { return describe(m) }

// ControlExtensions lists the extensions that a peer of /meshsub/1.3.0 speaks.
type ControlExtensions struct {
	PartialMessages *bool
	TestExtension   *bool
}

// GetPartialMessages returns the field, or its zero value if m or the field is nil.
func (m *ControlExtensions) GetPartialMessages() bool {
	if m == nil || m.PartialMessages == nil {
		return false
	}
	return *m.PartialMessages
}

// GetTestExtension returns the field, or its zero value if m or the field is nil.
func (m *ControlExtensions) GetTestExtension() bool {
	if m == nil || m.TestExtension == nil {
		return false
	}
	return *m.TestExtension
}

// Reset makes m the zero value.
func (m *ControlExtensions) Reset() { *m = ControlExtensions{} }

// String describes m for logs and tests; its form is not fixed.
func (m *ControlExtensions) String() string { return describe(m) }

// PeerInfo names a peer to graft instead; SignedPeerRecord is an unverified libp2p envelope.
type PeerInfo struct {
	PeerID           []byte
	SignedPeerRecord []byte
}

// GetPeerID returns the field, or its zero value if m or the field is nil.
func (m *PeerInfo) GetPeerID() []byte {
	if m == nil {
		return nil
	}
	return m.PeerID
}

// GetSignedPeerRecord returns the field, or its zero value if m or the field is nil.
func (m *PeerInfo) GetSignedPeerRecord() []byte {
	if m == nil {
		return nil
	}
	return m.SignedPeerRecord
}

// Reset makes m the zero value.
func (m *PeerInfo) Reset() { *m = PeerInfo{} }

// String describes m for logs and tests; its form is not fixed.
func (m *PeerInfo) String() string { return describe(m) }
