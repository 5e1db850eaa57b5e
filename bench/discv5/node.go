package main

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/discover"
	"github.com/ethereum/go-ethereum/p2p/enode"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
)

// socket is what both implementations can run on.
type socket interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// node is a running node.
type node interface {
	record() string
	dial(record string) (peer, error) // parses the record; nothing is sent
	close()
}

// peer is a node as another one sees it.
type peer interface {
	ping() error
	findnode(distance int) (int, error) // how many records came
	talk(request []byte) (int, error)   // length of the answer
}

// stack is an implementation.
type stack struct {
	name  string
	start func(conn socket, addr netip.AddrPort) (node, error)
}

// stacks are muster and go-ethereum, in the order of the columns. The
// go-ethereum nodes share a database: alone, each would hold 4 MB for it.
func stacks(db *enode.DB) [2]stack {
	return [2]stack{
		{name: "muster", start: startMuster},
		{name: "go-ethereum", start: func(conn socket, addr netip.AddrPort) (node, error) { return startGeth(db, conn, addr) }},
	}
}

const (
	talkProtocol = "bench"
	callTime     = 2 * time.Second // for any one request
)

type musterNode struct{ n *discv5.Node }

func startMuster(conn socket, addr netip.AddrPort) (node, error) {
	key, err := enr.GenerateKey()
	if err != nil {
		return nil, err
	}
	n, err := discv5.Listen(discv5.Config{Key: key, Conns: []discv5.PacketConn{conn}, Advertise: []netip.AddrPort{addr}})
	if err != nil {
		return nil, err
	}
	err = n.RegisterTalkProtocol(talkProtocol, func(_ context.Context, r discv5.TalkRequest) []byte { return r.Payload })
	return musterNode{n}, err
}

func (m musterNode) record() string { return m.n.LocalRecord().String() }

func (m musterNode) close() { _ = m.n.Close() }

func (m musterNode) dial(record string) (peer, error) {
	r, err := enr.ParseText(record)
	return musterPeer{m.n, r}, err
}

type musterPeer struct {
	n *discv5.Node
	r *enr.Record
}

func (p musterPeer) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	_, err := p.n.Ping(ctx, p.r)
	return err
}

func (p musterPeer) findnode(distance int) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	found, err := p.n.FindNode(ctx, p.r, distance)
	return len(found), err
}

func (p musterPeer) talk(request []byte) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	answer, err := p.n.TalkRequest(ctx, p.r, talkProtocol, request)
	return len(answer), err
}

type gethNode struct{ n *discover.UDPv5 }

func startGeth(db *enode.DB, conn socket, addr netip.AddrPort) (node, error) {
	key, err := crypto.GenerateKey()
	if err != nil {
		return nil, err
	}
	n, err := discover.ListenV5(conn, gethLocal(db, key, addr), discover.Config{PrivateKey: key})
	if err != nil {
		return nil, err
	}
	n.RegisterTalkHandler(talkProtocol, func(_ *enode.Node, _ *net.UDPAddr, req []byte) []byte { return req })
	return gethNode{n}, nil
}

func (g gethNode) record() string { return g.n.Self().String() }

func (g gethNode) close() { g.n.Close() }

func (g gethNode) dial(record string) (peer, error) {
	n, err := enode.Parse(enode.ValidSchemes, record)
	return gethPeer{g.n, n}, err
}

type gethPeer struct {
	n    *discover.UDPv5
	node *enode.Node
}

func (p gethPeer) ping() error {
	_, err := p.n.Ping(p.node)
	return err
}

func (p gethPeer) findnode(distance int) (int, error) {
	found, err := p.n.Findnode(p.node, []uint{uint(distance)})
	return len(found), err
}

func (p gethPeer) talk(request []byte) (int, error) {
	answer, err := p.n.TalkRequest(p.node, talkProtocol, request)
	return len(answer), err
}
