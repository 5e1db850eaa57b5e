// Package reach has a peer invited by a point: /muster/reach/1.0.0, which
// docs/spec/reach.md describes. A callee keeps one stream to each of its points
// ([Client.Listen]); a caller asks the points ([Client.Invite]); a [Server] on a
// point passes the invitation on, and both ends get the token under which they
// meet at an rdv server. The callee decides about the caller before the caller
// gets the token.
//
// A point is trusted to pass invitations on and with nothing else. Whom it
// names as the caller is a claim: the link that follows pins the identities of
// both ends, so that a point that lies can prevent a link and not enter one.
//
// Package muster joins this with package link; most programs want its Reach.
package reach

import "github.com/libp2p/go-libp2p/core/protocol"

// ProtocolID is the protocol's name on libp2p streams.
const ProtocolID protocol.ID = "/muster/reach/1.0.0"
