package wire

// Defaults of [Limits], sized after what the common implementations send.
const (
	// DefaultMaxRPC is the size all implementations accept by default but
	// rust-libp2p, which stops at 64 KiB.
	DefaultMaxRPC = 1 << 20
	// DefaultMaxSubscriptions lets a peer say in one hello all the topics it
	// may have at all.
	DefaultMaxSubscriptions = 1024
	// DefaultMaxPublish is far above the 500 that rust-libp2p accepts.
	DefaultMaxPublish = 1024
	// DefaultMaxControlEntries allows an IHAVE and a GRAFT for every one of
	// several hundred shared topics.
	DefaultMaxControlEntries = 1024
	// DefaultMaxMessageIDs allows as many announced and as many wanted ids as
	// go, rust and js consider of a peer in a heartbeat: 5,000 each.
	DefaultMaxMessageIDs = 10_000
	// DefaultMaxPeerInfos is more than the 16 of go and js.
	DefaultMaxPeerInfos = 32
	// maxPeersPerRPC bounds them over all PRUNEs of an RPC: nobody dials more.
	maxPeersPerRPC = 2048
	// DefaultMaxTopic is longer than any topic name in known use.
	DefaultMaxTopic = 1024
	// DefaultMaxMessageID is several times the longest id that a known
	// implementation makes (71 bytes).
	DefaultMaxMessageID = 256
	// DefaultMaxControlBytes holds 10,000 ids of go-libp2p, which are 46 bytes
	// long, twice over.
	DefaultMaxControlBytes = 1 << 20
)

// Limits bounds what one RPC may hold. A zero field means its default.
type Limits struct {
	RPC            int // bytes of a whole RPC
	Subscriptions  int // subscription changes
	Publish        int // published messages
	ControlEntries int // GRAFT, PRUNE, IHAVE, IWANT and IDONTWANT entries together
	MessageIDs     int // message ids in all of them together
	PeerInfos      int // peer exchange entries in one PRUNE
	Topic          int // bytes of a topic name
	MessageID      int // bytes of a message id
	ControlBytes   int // bytes of the control part
}

// Excess counts what a frame held beyond its Limits and what was therefore
// left out. A router may hold it against the sender.
type Excess struct {
	Subscriptions, Publish, Control, IDs, Peers int
	// Long counts entries left out because a topic or an id was too long.
	Long int
}

// Total is the number of entries left out for any reason.
func (e Excess) Total() int {
	return e.Subscriptions + e.Publish + e.Control + e.IDs + e.Peers + e.Long
}

// WithDefaults returns l with defaults in the place of zeros.
func (l Limits) WithDefaults() Limits {
	set := func(n *int, d int) {
		if *n == 0 {
			*n = d
		}
	}
	set(&l.RPC, DefaultMaxRPC)
	set(&l.Subscriptions, DefaultMaxSubscriptions)
	set(&l.Publish, DefaultMaxPublish)
	set(&l.ControlEntries, DefaultMaxControlEntries)
	set(&l.MessageIDs, DefaultMaxMessageIDs)
	set(&l.PeerInfos, DefaultMaxPeerInfos)
	set(&l.Topic, DefaultMaxTopic)
	set(&l.MessageID, DefaultMaxMessageID)
	set(&l.ControlBytes, DefaultMaxControlBytes)
	return l
}
