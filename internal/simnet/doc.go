// Package simnet is an internet in memory: hosts with addresses, NATs and
// firewalls between them, one-way delays, loss and spoofed datagrams, and UDP
// sockets that a program can use in place of the kernel's.
//
// Start with [New], put hosts on it with [Net.Host] and [NAT.Host], and open
// sockets with [Host.ListenUDP]. Close the Net at the end; it closes the
// sockets as well.
//
//	net := simnet.New(simnet.Config{Link: simnet.Delay(25 * time.Millisecond)})
//	defer net.Close()
//	a := net.Host(netip.MustParseAddr("192.0.2.1"))
//	conn, err := a.ListenUDP(30303)
//
// Everything that waits, waits on a channel or a timer and never while it
// holds a mutex, so inside a testing/synctest bubble the clock moves on as
// soon as all nodes are idle: an hour of a thousand nodes takes minutes.
// Outside a bubble the same code runs in real time.
//
// What happens to the nth datagram that a socket sends (lost, delayed,
// doubled) is a function of the seed, of the socket's address and of n. It
// does not depend on how the goroutines of different nodes interleave, so a
// run is repeatable as far as the programs on it are.
//
// It does not model bandwidth, fragmentation or congestion: a link is a delay
// and a probability. Receive queues are bounded, as in a kernel.
package simnet
