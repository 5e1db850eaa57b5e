// Package muster finds peers, reaches them and talks to them.
//
// It is the one room that knows the others. The protocol rooms (enr, discv5,
// rendezvous, rdv, pubsub) can each be imported on their own; what they share
// with a go-libp2p host they take as an argument. [NewHost] assembles the
// small host that the muster command uses.
package muster
