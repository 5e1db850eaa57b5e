package admin

import "time"

// MaxRows is how many rows of each list in a [Snapshot] are served. A point
// has thousands of peers; nobody reads more rows than this on a page, and an
// event of all lists stays under 256 KiB.
const MaxRows = 200

// A Snapshot is a daemon's state at one moment: what /api/status serves and
// the status page draws. A nil wing is one that is off. Counters are totals
// since the daemon started; who reads them takes differences. Lists are in the
// order in which they are to be shown, cut to MaxRows when they are served.
type Snapshot struct {
	// Time is when the snapshot was taken. If zero, the server sets it.
	Time time.Time `json:"time"`
	Node Node      `json:"node"`

	// Readiness is what the parts said last. The server sets it.
	Readiness Readiness `json:"readiness"`

	Rendezvous *Rendezvous `json:"rendezvous,omitempty"`
	Relay      *Relay      `json:"relay,omitempty"`
	Discv5     *Discv5     `json:"discv5,omitempty"`
	Pubsub     *Pubsub     `json:"pubsub,omitempty"`

	Points []Point `json:"points"`
	Links  []Link  `json:"links"`

	// Limits are those that were hit. Ones with a count of zero are left out
	// when the snapshot is served.
	Limits []Limit `json:"limits"`
}

// Node tells who the daemon is and what it takes of the machine.
type Node struct {
	Peer  string   `json:"peer"`            // its peer ID
	Addrs []string `json:"addrs"`           // multiaddrs, with /p2p/ID
	ENR   string   `json:"enr,omitempty"`   // its node record
	URL   string   `json:"url,omitempty"`   // of its rdv server
	Store string   `json:"store,omitempty"` // kind of store, no credentials

	// Open and Closed say in words what strangers may and may not use.
	Open   []string `json:"open,omitempty"`
	Closed []string `json:"closed,omitempty"`

	Started time.Time `json:"started"`
	Conns   int       `json:"conns"` // libp2p connections

	// The server sets what follows.
	Version    string  `json:"version,omitempty"`
	Uptime     float64 `json:"uptime_seconds"`
	Goroutines int     `json:"goroutines"`
	HeapBytes  uint64  `json:"heap_bytes"`   // live objects
	Memory     uint64  `json:"memory_bytes"` // what the Go runtime holds of the system
}

// Rendezvous is the point's registry.
type Rendezvous struct {
	Registrations     int               `json:"registrations"`      // of libp2p's protocol
	WakuRegistrations int               `json:"waku_registrations"` // of Waku's
	Namespaces        int               `json:"namespaces"`         // of both
	Peers             int               `json:"peers"`              // with registrations
	Requests          map[string]uint64 `json:"requests"`           // by kind: register, unregister, discover
	Refused           uint64            `json:"refused"`
	Expired           uint64            `json:"expired"`
	Streams           int               `json:"streams"` // open
}

// Relay is the rdv server: its lobby and its relay.
type Relay struct {
	Access  string `json:"access,omitempty"` // closed, token, namespace or open
	Waiting int    `json:"waiting"`          // clients in the lobby
	Pairs   int    `json:"pairs"`            // pairs that have met and not ended
	Relays  int    `json:"relays"`           // pairs that are being relayed

	Matched      uint64 `json:"matched"`       // clients that met another
	PairsDirect  uint64 `json:"pairs_direct"`  // pairs that left for a direct path
	PairsRelayed uint64 `json:"pairs_relayed"` // pairs that stayed
	PairsFailed  uint64 `json:"pairs_failed"`  // pairs that got neither
	Refused      uint64 `json:"refused"`

	RelayedBytes uint64 `json:"relayed_bytes"` // through this server, both directions
	DirectBytes  uint64 `json:"direct_bytes"`  // that links of this process carried directly
}

// Discv5 is the node's table and sessions.
type Discv5 struct {
	Nodes    int      `json:"nodes"` // in the table
	Alive    int      `json:"alive"` // of those, the ones that answered a check
	Sessions int      `json:"sessions"`
	Buckets  []Bucket `json:"buckets"` // by rising distance; empty ones may be left out

	PacketsIn  uint64            `json:"packets_in"`
	PacketsOut uint64            `json:"packets_out"`
	Requests   map[string]uint64 `json:"requests"` // of others, by kind
	Dropped    uint64            `json:"dropped"`
}

// A Bucket holds the nodes at one log2 distance, 1 to 256.
type Bucket struct {
	Distance int `json:"distance"`
	Nodes    int `json:"nodes"`
	Alive    int `json:"alive"`
}

// Pubsub is the router's peers and topics.
type Pubsub struct {
	Peers  int     `json:"peers"`
	Topics []Topic `json:"topics"` // that this node is in

	Published  uint64 `json:"published"`
	Delivered  uint64 `json:"delivered"`
	Duplicates uint64 `json:"duplicates"`
	Rejected   uint64 `json:"rejected"`
}

// A Topic is one that the node is in.
type Topic struct {
	Name  string `json:"name"`
	Peers int    `json:"peers"` // that have subscribed
	Mesh  int    `json:"mesh"`  // of those, the ones in the mesh
}

// A Point is one that this daemon works with: it shares its store, or is used
// to reach others.
type Point struct {
	Peer  string  `json:"peer"`
	Addr  string  `json:"addr"`
	Role  string  `json:"role"`  // such as "reach", "store"
	State string  `json:"state"` // such as "connected", "waiting"
	RTT   float64 `json:"rtt_ms,omitempty"`
	Error string  `json:"error,omitempty"` // of the last attempt
}

// A Link is one secured stream to a peer.
type Link struct {
	Peer     string    `json:"peer"`
	Service  string    `json:"service,omitempty"`
	Path     string    `json:"path"` // relay or direct
	Addr     string    `json:"addr,omitempty"`
	Since    time.Time `json:"since"` // of the link, not of its path
	RTT      float64   `json:"rtt_ms,omitempty"`
	Sent     uint64    `json:"sent_bytes"`
	Received uint64    `json:"received_bytes"`
	Switches uint64    `json:"switches"` // of path
	Resumes  uint64    `json:"resumes"`
}

// A Limit is one that was hit.
type Limit struct {
	Part  string `json:"part"` // the room: rendezvous, rdv, …
	Limit string `json:"limit"`
	Count uint64 `json:"count"`
}

// A Peer is a connected one.
type Peer struct {
	Peer      string    `json:"peer"`
	Addr      string    `json:"addr"` // as seen here
	Inbound   bool      `json:"inbound"`
	Agent     string    `json:"agent,omitempty"` // what it calls itself
	Protocols []string  `json:"protocols,omitempty"`
	Since     time.Time `json:"since"`
	Streams   int       `json:"streams"`
	RTT       float64   `json:"rtt_ms,omitempty"`
}
