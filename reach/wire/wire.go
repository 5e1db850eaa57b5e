// Package wire has the messages of /muster/reach/1.0.0, with which a caller has
// a peer invited by a point, and the first bytes of a link that came of an
// invitation. docs/spec/reach.md is the protocol; this is its encoding.
//
// A message on a stream is a varint of its length, at most [MaxMessage], and
// that many bytes of protobuf (https://protobuf.dev/programming-guides/encoding/):
//
//	field  type    name      in
//	1      varint  kind      all
//	2      bytes   call      INVITE, INVITATION    16 bytes, chosen by the caller
//	3      bytes   peer      INVITE: the callee; INVITATION: the caller
//	4      string  service   INVITE, INVITATION
//	5      string  access    PARK, INVITE, RESERVE: access token for closed points
//	6      varint  status    PARKED, ANSWER, REPLY, GOAWAY
//	7      string  text      beside a status, for people
//	8      string  token     ANSWER, INVITATION: rdv token
//	9      string  bearer    ANSWER, INVITATION: authorization at the servers
//	10     string  servers   ANSWER, INVITATION: URLs, repeated
//	11     varint  number    INVITATION, REPLY: which invitation of the stream
//	12     bytes   caller    FORWARD: who invites
//	13     bytes   source    FORWARD: where from, 4 or 16 bytes
//
// The first bytes of a link, from the caller, name the service (see [AppendHello]):
//
//	+---------+--------+---------+
//	| version | length | service |
//	| 1       | 1 byte |         |
//	+---------+--------+---------+
package wire

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Bounds of a message and its parts, in bytes. Longer ones are malformed.
const (
	MaxMessage = 2048
	MaxPeer    = 64 // of an identity hash with a secp256k1 or Ed25519 key, or of any SHA-256
	MaxService = 64
	MaxAccess  = 256
	MaxText    = 128
	MaxToken   = 128 // of a stock rdv server
	MaxBearer  = 256
	MaxServers = 4
	MaxServer  = 256
)

// CallSize is the size of a call's identifier.
const CallSize = 16

// ErrMalformed is wrapped by the errors of the Parse functions.
var ErrMalformed = errors.New("reach: malformed message")

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

// A Kind says what a message is.
type Kind uint8

// The kinds of messages. A stream begins with PARK, INVITE or RESERVE.
const (
	Park       Kind = iota + 1 // callee to point: keep this stream
	Parked                     // point to callee: the answer
	Invite                     // caller to point: have a peer invited
	Reserve                    // to point: a token for a ticket
	Answer                     // point to whom has sent INVITE or RESERVE
	Invitation                 // point to callee
	Reply                      // callee to point: what it says to an invitation
	Ping                       // callee to point
	Pong                       // point to callee
	GoAway                     // point to callee: the last message, with the reason
	Forward                    // point to point, on no stream of libp2p: an INVITE that the other one got
)

var kindNames = [...]string{
	Park: "PARK", Parked: "PARKED", Invite: "INVITE", Reserve: "RESERVE", Answer: "ANSWER",
	Invitation: "INVITATION", Reply: "REPLY", Ping: "PING", Pong: "PONG", GoAway: "GOAWAY", Forward: "FORWARD",
}

func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kindNames[k]
}

// A Status is an outcome. One that is not known here means a failure.
type Status uint8

// The statuses.
const (
	OK           Status = iota
	NotHere             // the callee is not parked at this point
	Refused             // the callee does not want this caller
	NoService           // the callee has no such service
	Unauthorized        // the point wants another access token, or none of you
	Busy                // a limit of the point or the callee: try again later
	NoAnswer            // the callee is parked, and has said nothing in time
	Unavailable         // the point is stopping: try another one
	Invalid             // the message is not one that may come here
	Internal            // the point could not, for reasons of its own
	Replaced            // GOAWAY: the callee has parked another stream
	NumStatuses         // how many there are
)

var statusNames = [NumStatuses]string{
	OK: "OK", NotHere: "NOT_HERE", Refused: "REFUSED", NoService: "NO_SERVICE", Unauthorized: "UNAUTHORIZED", Busy: "BUSY",
	NoAnswer: "NO_ANSWER", Unavailable: "UNAVAILABLE", Invalid: "INVALID", Internal: "INTERNAL", Replaced: "REPLACED",
}

func (s Status) String() string {
	if s >= NumStatuses {
		return fmt.Sprintf("status %d", uint8(s))
	}
	return statusNames[s]
}

// A Message is any message; which fields mean something depends on its kind.
type Message struct {
	Kind    Kind
	Call    [CallSize]byte
	Peer    peer.ID
	Service string
	Access  string
	Status  Status
	Text    string
	Token   string
	Bearer  string
	Servers []string
	Number  uint64
	Caller  peer.ID
	Source  netip.Addr
}
