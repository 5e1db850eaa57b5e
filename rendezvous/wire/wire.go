// Package wire turns the messages of two rendezvous protocols into one neutral
// message and back.
//
// A message is a protobuf message behind its length as an unsigned varint.
// The dialects have the same parts under different numbers:
//
//	                     Libp2p                 Waku
//	protocol             /rendezvous/1.0.0      /vac/waku/rendezvous/0.0.1
//	Message.type         1                      1
//	  REGISTER             0                      0
//	  REGISTER_RESPONSE    1                      1
//	  UNREGISTER           2                      -
//	  DISCOVER             3                      2
//	  DISCOVER_RESPONSE    4                      3
//	Message.register     2                      2
//	  ns 1, signedPeerRecord 2, ttl 3 (uint64; int64 in Waku)
//	Message.registerResponse 3                  3
//	  status 1, statusText 2, ttl 3
//	Message.unregister   4                      -
//	  ns 1, id 2
//	Message.discover     5                      4
//	  ns 1, limit 2, cookie 3                     ns 1, limit 2
//	Message.discoverResponse 6                  5
//	  registrations 1, cookie 2, status 3, statusText 4 (no cookie in Waku)
//
// Negative numbers of Waku's int64 fields are two's complement varints, so
// they read as numbers above 2^63 here, which no rule accepts.
//
// Peers of before 2020 use Libp2p's numbers with an unsigned PeerInfo message
// {id 1, repeated addrs 2} in Register's field 2: the neutral message holds
// its bytes as the Record, and [ParsePeerInfo] reads them.
//
// Spec: https://github.com/libp2p/specs/blob/master/rendezvous/README.md#protobuf
package wire

import "strconv"

// A Dialect is the protocol that a message is written in.
type Dialect uint8

// The dialects.
const (
	Libp2p Dialect = iota // /rendezvous/1.0.0
	Waku                  // /vac/waku/rendezvous/0.0.1
)

// A Kind says which message it is, in both dialects.
type Kind uint8

// The kinds of messages.
const (
	Register Kind = iota
	RegisterResponse
	Unregister // not in Waku
	Discover
	DiscoverResponse
)

func (k Kind) String() string {
	switch k {
	case Register:
		return "REGISTER"
	case RegisterResponse:
		return "REGISTER_RESPONSE"
	case Unregister:
		return "UNREGISTER"
	case Discover:
		return "DISCOVER"
	case DiscoverResponse:
		return "DISCOVER_RESPONSE"
	default:
		return "kind " + strconv.Itoa(int(k))
	}
}

// A Status is the answer's status, with the numbers of both specs.
type Status uint32

// The statuses. Waku has no E_INVALID_COOKIE, and calls
// E_INVALID_SIGNED_PEER_RECORD E_INVALID_PEER_INFO.
const (
	OK                  Status = 0
	InvalidNamespace    Status = 100
	InvalidSignedRecord Status = 101
	InvalidTTL          Status = 102
	InvalidCookie       Status = 103
	NotAuthorized       Status = 200
	InternalError       Status = 300
	Unavailable         Status = 400
)

func (s Status) String() string {
	switch s {
	case OK:
		return "OK"
	case InvalidNamespace:
		return "E_INVALID_NAMESPACE"
	case InvalidSignedRecord:
		return "E_INVALID_SIGNED_PEER_RECORD"
	case InvalidTTL:
		return "E_INVALID_TTL"
	case InvalidCookie:
		return "E_INVALID_COOKIE"
	case NotAuthorized:
		return "E_NOT_AUTHORIZED"
	case InternalError:
		return "E_INTERNAL_ERROR"
	case Unavailable:
		return "E_UNAVAILABLE"
	default:
		return "status " + strconv.FormatUint(uint64(s), 10)
	}
}

// A Message is one message in neutral form. Which fields count depends on
// Kind; the comments name the kinds.
type Message struct {
	Kind Kind

	NS      string // Register, Unregister, Discover; bytes as they came, perhaps not UTF-8
	HasNS   bool   // Discover: write ns even if empty; parsed: it was there
	Record  []byte // Register: the signed peer record, or a PeerInfo
	TTL     uint64 // Register, RegisterResponse: seconds
	HasTTL  bool   // Register, RegisterResponse: TTL is there
	ID      []byte // Unregister: the peer's id; not written if empty
	Limit   uint64 // Discover
	HasLim  bool   // Discover: Limit is there
	Cookie  []byte // Discover, DiscoverResponse; not written if nil
	Status  Status // RegisterResponse, DiscoverResponse; absent reads as OK
	Text    string // RegisterResponse, DiscoverResponse: statusText, cut to MaxText
	Records []Registration

	// More is set by Parse if the message held more records than were asked
	// for; they were left out.
	More bool
}

// A Registration is one found record of a DISCOVER_RESPONSE.
type Registration struct {
	NS     string // "" if absent
	Record []byte
	TTL    uint64 // seconds
	HasTTL bool
}

// MaxText bounds the statusText that is kept of a message, in bytes: it is for
// a log line, and it comes from a stranger.
const MaxText = 256
