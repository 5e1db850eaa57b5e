package discv5

import (
	"net/netip"

	"github.com/muster-p2p/muster/enr"
)

// An EventKind says what happened.
type EventKind uint8

// The kinds of event.
const (
	NodeAdded          EventKind = iota + 1 // a node came into the table, not seen alive yet
	NodeAlive                               // a node in the table was seen alive for the first time at its endpoint
	NodeRemoved                             // a node left the table
	SessionEstablished                      // a handshake was completed, by either side
	RecordUpdated                           // the local record changed
)

// String returns the kind as a word for logs.
func (k EventKind) String() string {
	switch k {
	case NodeAdded:
		return "node-added"
	case NodeAlive:
		return "node-alive"
	case NodeRemoved:
		return "node-removed"
	case SessionEstablished:
		return "session-established"
	case RecordUpdated:
		return "record-updated"
	default:
		return "unknown"
	}
}

// An Event is something that happened to a node, for Node.Subscribe.
type Event struct {
	Kind   EventKind
	ID     enr.ID
	Addr   netip.AddrPort // where the other node is; zero in RecordUpdated
	Record *enr.Record    // nil in SessionEstablished
}

// Stats counts what a node has done since it began. Each limit that drops
// something has its counter here.
type Stats struct {
	PacketsIn, PacketsOut, BytesIn, BytesOut uint64

	PacketsInvalid          uint64 // not discv5, or malformed
	PacketsUnsent           uint64 // the socket refused them
	MessagesInvalid         uint64 // decrypted and malformed
	Undecryptable           uint64 // from an endpoint that there is a session with
	Unsolicited             uint64 // answers nobody asked for, or late
	UnsolicitedChallenges   uint64
	UnsolicitedHandshakes   uint64 // without a live challenge
	HandshakesIn            uint64 // completed, peer's initiative
	HandshakesOut           uint64 // answered, our initiative
	HandshakesRefused       uint64 // with a wrong signature, record or key
	HandshakesDropped       uint64 // because the queue of the workers was full
	ChallengesSent          uint64
	ChallengesRateLimited   uint64 // silence, since the source or all had enough
	ChallengesDropped       uint64 // because the table was full
	SessionsEvicted         uint64
	TopicMessages           uint64 // ignored: topic advertisement is not spoken
	PingsIn, FindNodesIn    uint64
	TalkRequestsIn          uint64
	TalksDropped            uint64 // because too many were being handled
	TalksTimedOut           uint64 // handlers that took too long
	TalksTooLarge           uint64 // answers that did not fit a packet
	RequestsOut             uint64
	RequestsFailed          uint64
	RequestsRefused         uint64 // because too many were under way to one peer
	Timeouts                uint64
	EventsDropped           uint64 // a subscriber was slow
	NodesRefusedByNetwork   uint64 // too many of one network in the table
	NodesRefusedUnrelayable uint64 // records a peer must not tell us of
	RecordUpdates           uint64 // by the vote of peers

	// As it stands now.
	TableNodes, TableAlive, TableSpares int
	Sessions, Challenges                int
}

func (c *core) snapshot() Stats {
	s := c.stats
	s.ChallengesRateLimited, s.ChallengesDropped = c.challenges.droppedByRate, c.challenges.dropped
	s.SessionsEvicted, s.NodesRefusedByNetwork = c.sessions.evicted, c.table.limited
	s.Sessions, s.Challenges = len(c.sessions.byPeer), len(c.challenges.byPeer)
	s.TableNodes = c.table.n
	for i := range c.table.buckets {
		b := &c.table.buckets[i]
		s.TableSpares += len(b.spares)
		for _, e := range b.entries {
			if e.live {
				s.TableAlive++
			}
		}
	}
	return s
}
