// Package muster finds peers, reaches them and talks to them.
//
// A [Node] has three wings: [Find] looks for peers by name, [Reach] connects to
// them through NATs, [Talk] says things to many. With a [PointConfig] it is also
// a point, which others find and reach each other by:
//
//	n, err := muster.New(muster.Config{Point: &muster.PointConfig{HTTP: ":8080"}})
//	if err != nil { … }
//	if err := n.Start(ctx); err != nil { … }
//	defer n.Close()
//
// The package is the one room that knows the others. The protocol rooms (enr,
// discv5, rendezvous, rdv, pubsub, link, reach) can each be imported on their
// own; what they share with a go-libp2p host they take as an argument. [NewHost]
// assembles the small host that the muster command uses.
//
// What a node does not do: it opens no port that it was not told to, and keeps
// nothing on the disk but what its stores do.
package muster
