package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"fmt"
	"net/netip"

	"github.com/ethereum/go-ethereum/common/mclock"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/discover/v5wire"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/ethereum/go-ethereum/rlp"
)

// gethEnd is one of two nodes that talk without a network.
type gethEnd struct {
	local *enode.LocalNode
	codec *v5wire.Codec
	addr  string
}

func newGethEnd(addr netip.AddrPort, db *enode.DB) (*gethEnd, error) {
	key, err := crypto.GenerateKey()
	if err != nil {
		return nil, err
	}
	local := gethLocal(db, key, addr)
	return &gethEnd{local: local, codec: v5wire.NewCodec(local, key, mclock.System{}, nil), addr: addr.String()}, nil
}

func gethLocal(db *enode.DB, key *ecdsa.PrivateKey, addr netip.AddrPort) *enode.LocalNode {
	local := enode.NewLocalNode(db, key)
	local.SetStaticIP(addr.Addr().AsSlice())
	local.SetFallbackUDP(int(addr.Port()))
	return local
}

// send carries a packet from a to b and returns what b reads.
func (a *gethEnd) send(b *gethEnd, p v5wire.Packet, ch *v5wire.Whoareyou) (v5wire.Packet, v5wire.Nonce, error) {
	enc, nonce, err := a.codec.Encode(b.local.ID(), b.addr, p, ch)
	if err != nil {
		return nil, nonce, err
	}
	_, _, got, err := b.codec.Decode(enc, a.addr)
	return got, nonce, err
}

// handshake makes a session between a and b, which must have none.
func (a *gethEnd) handshake(b *gethEnd) error {
	_, nonce, err := a.send(b, &v5wire.Ping{}, nil)
	if err != nil {
		return err
	}
	ask := &v5wire.Whoareyou{Nonce: nonce}
	if _, err := rand.Read(ask.IDNonce[:]); err != nil {
		return err
	}
	got, _, err := b.send(a, ask, nil)
	if err != nil {
		return err
	}
	ch, ok := got.(*v5wire.Whoareyou)
	if !ok {
		return fmt.Errorf("got %s, want WHOAREYOU", got.Name())
	}
	ch.Node = b.local.Node()
	got, _, err = a.send(b, &v5wire.Ping{ReqID: []byte("reqid"), ENRSeq: 5}, ch)
	if err == nil && got.Kind() != v5wire.PingMsg {
		err = fmt.Errorf("got %s, want PING", got.Name())
	}
	return err
}

func gethCodecs() (codecs, error) {
	db, err := enode.OpenDB("")
	if err != nil {
		return codecs{}, err
	}
	a, err := newGethEnd(addrA, db)
	if err != nil {
		return codecs{}, err
	}
	b, err := newGethEnd(netip.MustParseAddrPort("127.0.0.1:30304"), db)
	if err != nil {
		return codecs{}, err
	}
	if err := a.handshake(b); err != nil {
		return codecs{}, err
	}
	var records []*enr.Record
	for range 4 {
		key, err := crypto.GenerateKey()
		if err != nil {
			return codecs{}, err
		}
		records = append(records, gethLocal(db, key, addrA).Node().Record())
	}
	raw, err := rlp.EncodeToBytes(records[0])
	if err != nil {
		return codecs{}, err
	}
	ping := &v5wire.Ping{ReqID: []byte("reqidabc"), ENRSeq: 5}
	nodes := &v5wire.Nodes{ReqID: []byte("reqidabc"), RespCount: 1, Nodes: records}
	encode := func(p v5wire.Packet) func() error {
		return func() error { _, _, err := a.codec.Encode(b.local.ID(), b.addr, p, nil); return err }
	}
	decode := func(p v5wire.Packet) (func() error, error) {
		enc, _, err := a.codec.Encode(b.local.ID(), b.addr, p, nil)
		packet, scratch := append([]byte(nil), enc...), make([]byte, len(enc))
		return func() error { // it is unmasked in place
			copy(scratch, packet)
			_, _, got, err := b.codec.Decode(scratch, a.addr)
			if err == nil && got.Kind() != p.Kind() {
				err = fmt.Errorf("got %s", got.Name())
			}
			return err
		}, err
	}
	verify := func() error {
		var r enr.Record
		if err := rlp.DecodeBytes(raw, &r); err != nil {
			return err
		}
		_, err := enode.New(enode.ValidSchemes, &r)
		return err
	}
	c := codecs{encodePing: encode(ping), encodeNodes: encode(nodes), record: verify, again: verify}
	if c.decodePing, err = decode(ping); err != nil {
		return codecs{}, err
	}
	if c.decodeNodes, err = decode(nodes); err != nil {
		return codecs{}, err
	}
	port := uint16(0)
	c.handshake = func() error { // sessions are found by address: another port, another session
		port++
		a.addr = netip.AddrPortFrom(addrA.Addr(), port).String()
		b.addr = a.addr
		return a.handshake(b)
	}
	return c, nil
}
