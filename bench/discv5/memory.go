package main

import (
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"

	"github.com/muster-p2p/muster/internal/simnet"
)

const (
	idleNodes = 64                   // over which the heap of an idle node is averaged
	sessions  = 800                  // over which that of a cold session is; within every cache's bound
	quiet     = 3 * time.Second      // until what a node does at its start is over
	cold      = 70 * time.Second     // until a session counts as cold: muster drops unused ciphers after half a minute
	pace      = 3 * time.Millisecond // between visits: muster challenges at most 500 strangers a second
)

func memoryBench(c config) error {
	db, err := enode.OpenDB("")
	if err != nil {
		return err
	}
	defer db.Close()
	both := stacks(db)
	var idle, session [2]float64
	for i, s := range both {
		if idle[i], err = idleHeap(s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if session[i], err = sessionHeap(s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	c.row("heap of an idle node", "B", idle[0], idle[1], less, 0)
	c.row("heap per cold session", "B", session[0], session[1], less, 0)
	return nil
}

// heap is what is in use after a collection.
func heap() float64 {
	runtime.GC()
	runtime.GC() // what finalizers freed
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func hostAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(11 + i>>16), byte(i >> 8), byte(i), 1})
}

func idleHeap(s stack) (float64, error) {
	net := simnet.New(simnet.Config{})
	defer net.Close()
	var nodes []node
	defer func() {
		for _, n := range nodes {
			n.close()
		}
	}()
	before := heap()
	for i := range idleNodes {
		n, err := startOn(net, s, hostAddr(i))
		if err != nil {
			return 0, err
		}
		nodes = append(nodes, n)
	}
	time.Sleep(quiet)
	return (heap() - before) / idleNodes, nil
}

func startOn(net *simnet.Net, s stack, a netip.Addr) (node, error) {
	conn, err := net.Host(a).ListenUDP(30303)
	if err != nil {
		return nil, err
	}
	return s.start(conn, conn.AddrPort())
}

// sessionHeap makes a server talk to many nodes that then go away, and sees
// what it keeps. The records and table seats that it keeps of them count too.
func sessionHeap(s stack) (float64, error) {
	net := simnet.New(simnet.Config{})
	defer net.Close()
	server, err := startOn(net, s, hostAddr(0))
	if err != nil {
		return 0, err
	}
	defer server.close()
	if err := visit(net, s, server.record(), 1); err != nil { // once for all that is made on first use
		return 0, err
	}
	before := heap()
	for i := range sessions {
		time.Sleep(pace)
		if err := visit(net, s, server.record(), 2+i); err != nil {
			return 0, fmt.Errorf("visitor %d: %w", i, err)
		}
	}
	time.Sleep(cold)
	return (heap() - before) / sessions, nil
}

// visit pings the server from a node that is then closed.
func visit(net *simnet.Net, s stack, server string, i int) error {
	host := net.Host(hostAddr(i))
	defer host.Leave()
	conn, err := host.ListenUDP(30303)
	if err != nil {
		return err
	}
	n, err := s.start(conn, conn.AddrPort())
	if err != nil {
		return err
	}
	defer n.close()
	p, err := n.dial(server)
	if err != nil {
		return err
	}
	return p.ping()
}
