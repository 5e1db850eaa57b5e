// Package discv5 finds nodes without a server: it speaks Node Discovery v5.1,
// a DHT of signed node records over UDP.
//
// Start with [Listen], which returns a [Node] that answers others, keeps a
// table of live nodes and looks for more by itself. [Node.Lookup],
// [Node.Resolve], [Node.Nodes] and [Node.RandomNodes] find nodes;
// [Node.Ping], [Node.FindNode] and [Node.TalkRequest] ask one;
// [Node.RegisterTalkProtocol] answers an application's requests.
//
// What it guarantees: a record is handed out only with a valid signature; a
// node is told of to others only after it has answered at the endpoint that
// its record names; messages are authenticated by the sender's key, and their
// sender's address has been proved; what strangers can make the node hold or
// send is bounded by [Config].
//
// What it does not do: topic advertisement, Discovery v4, hole punching. A
// node behind a NAT takes part as an asker; it is found by others only if its
// endpoint can be reached.
//
// The state is in core and the files that it is made of (session, challenge,
// request, table, lookup, ipvote, talk), which have no clock, socket or
// goroutine. Node, udp and the shell files drive it.
//
// Specification: https://github.com/ethereum/devp2p/blob/master/discv5/discv5.md;
// what is done, left out and done otherwise: docs/spec/discv5.md.
package discv5
