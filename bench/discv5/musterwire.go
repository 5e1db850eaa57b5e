package main

import (
	"crypto/cipher"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
)

// musterEnd is one of two nodes that talk without a network. The maps stand
// for what a node does around the codec: it finds the session by node and
// address.
type musterEnd struct {
	key      *enr.PrivateKey
	record   *enr.Record
	id       [32]byte
	codec    *wire.Codec
	dice     *rand.ChaCha8
	sessions map[sessionKey]*musterSession
	out      []byte
	msg      wire.Message
}

type sessionKey struct {
	id   [32]byte
	addr netip.AddrPort
}

type musterSession struct {
	mask        cipher.Block
	read, write cipher.AEAD
	count       uint32
}

func newMusterEnd(addr netip.AddrPort) (*musterEnd, error) {
	key, err := enr.GenerateKey()
	if err != nil {
		return nil, err
	}
	record, err := musterRecord(key, addr)
	if err != nil {
		return nil, err
	}
	e := &musterEnd{key: key, record: record, id: record.ID(), sessions: map[sessionKey]*musterSession{}}
	e.codec = wire.NewCodec(e.id)
	e.dice = rand.NewChaCha8(e.id)
	return e, nil
}

func musterRecord(key *enr.PrivateKey, addr netip.AddrPort) (*enr.Record, error) {
	content := enr.Content{Seq: enr.NextSeq(0, time.Now())}
	content.SetUDPEndpoint(addr)
	return content.Sign(key)
}

func (e *musterEnd) fill(b []byte) { _, _ = e.dice.Read(b) } // ChaCha8 does not fail

func (e *musterEnd) nonce(s *musterSession) (n wire.Nonce) {
	s.count++
	n[0], n[1], n[2], n[3] = byte(s.count>>24), byte(s.count>>16), byte(s.count>>8), byte(s.count)
	e.fill(n[4:])
	return n
}

func (e *musterEnd) encode(to *musterEnd, addr netip.AddrPort, m *wire.Message) (err error) {
	s := e.sessions[sessionKey{to.id, addr}]
	var iv [16]byte
	e.fill(iv[:])
	e.out, err = e.codec.AppendMessage(e.out[:0], s.mask, iv, e.nonce(s), s.write, m)
	return err
}

func (e *musterEnd) decode(packet []byte, addr netip.AddrPort) error {
	var h wire.Header
	message, err := e.codec.Unmask(packet, &h)
	if err != nil {
		return err
	}
	s := e.sessions[sessionKey{h.Src, addr}]
	plain, err := e.codec.Open(s.read, &h, packet, message)
	if err != nil {
		return err
	}
	return e.msg.Decode(plain)
}

// handshake makes a session between a and b, both at addr.
func (a *musterEnd) handshake(b *musterEnd, addr netip.AddrPort) error {
	var iv, idNonce [16]byte
	var nonce wire.Nonce
	b.fill(iv[:])
	b.fill(idNonce[:])
	b.fill(nonce[:])
	ch := wire.NewChallenge(iv, nonce, idNonce, 0)

	// The initiator: an ephemeral key, the shared point, the proof.
	eph, err := enr.GenerateKey()
	if err != nil {
		return err
	}
	ephPub := eph.Public().Compressed()
	keys := wire.DeriveKeys(eph.SharedPoint(b.record.PublicKey()), a.id, b.id, &ch)
	sig := a.key.Sign(wire.IDProof(&ch, ephPub, b.id))
	as := &musterSession{mask: wire.NewMask(b.id), write: wire.NewAEAD(keys.Initiator), read: wire.NewAEAD(keys.Recipient)}
	a.sessions[sessionKey{b.id, addr}] = as
	a.fill(iv[:])
	a.msg = wire.Message{Kind: wire.KindPing, Seq: 5}
	packet, err := a.codec.AppendHandshake(a.out[:0], as.mask, iv, a.nonce(as), as.write, sig, ephPub, a.record.Bytes(), &a.msg)
	if err != nil {
		return err
	}
	a.out = packet

	// The recipient: record, proof, shared point, message.
	var h wire.Header
	message, err := b.codec.Unmask(packet, &h)
	if err != nil {
		return err
	}
	proof := enr.Proof{Digest: wire.IDProof(&ch, [wire.KeySize]byte(h.EphemeralKey), b.id), Signature: h.Signature}
	if _, err := enr.ParseProven(h.Record, h.Src, proof); err != nil {
		return err
	}
	secret, err := b.key.SharedPointWith(h.EphemeralKey)
	if err != nil {
		return err
	}
	keys = wire.DeriveKeys(secret, h.Src, b.id, &ch)
	bs := &musterSession{mask: wire.NewMask(h.Src), read: wire.NewAEAD(keys.Initiator), write: wire.NewAEAD(keys.Recipient)}
	plain, err := b.codec.Open(bs.read, &h, packet, message)
	if err != nil {
		return err
	}
	b.sessions[sessionKey{h.Src, addr}] = bs
	return b.msg.Decode(plain)
}

func musterCodecs() (codecs, error) {
	a, err := newMusterEnd(addrA)
	if err != nil {
		return codecs{}, err
	}
	b, err := newMusterEnd(addrA)
	if err != nil {
		return codecs{}, err
	}
	if err := a.handshake(b, addrA); err != nil {
		return codecs{}, err
	}
	ping := &wire.Message{Kind: wire.KindPing, ReqID: wire.NewReqID(1), Seq: 5}
	nodes := &wire.Message{Kind: wire.KindNodes, ReqID: wire.NewReqID(1), Total: 1}
	var raw []byte
	for range 4 {
		key, err := enr.GenerateKey()
		if err != nil {
			return codecs{}, err
		}
		r, err := musterRecord(key, addrA)
		if err != nil {
			return codecs{}, err
		}
		raw = r.Bytes()
		nodes.Records = append(nodes.Records, raw)
	}
	cache := enr.NewCache(16)
	encode := func(m *wire.Message) func() error {
		return func() error { return a.encode(b, addrA, m) }
	}
	decode := func(m *wire.Message) (func() error, error) {
		if err := a.encode(b, addrA, m); err != nil {
			return nil, err
		}
		packet, scratch := append([]byte(nil), a.out...), make([]byte, len(a.out))
		return func() error { // it is unmasked in place, so a fresh copy each time, as for a packet read
			copy(scratch, packet)
			return b.decode(scratch, addrA)
		}, nil
	}
	c := codecs{
		encodePing: encode(ping), encodeNodes: encode(nodes),
		record: func() error { _, err := enr.Parse(raw); return err },
		again:  func() error { _, err := cache.Parse(raw); return err },
	}
	if c.decodePing, err = decode(ping); err != nil {
		return codecs{}, err
	}
	decodeNodes, err := decode(nodes)
	if err != nil {
		return codecs{}, err
	}
	c.decodeNodes = func() error {
		if err := decodeNodes(); err != nil {
			return err
		}
		for _, r := range b.msg.Records { // go-ethereum reads the pairs as well
			if err := enr.CheckForm(r); err != nil {
				return err
			}
		}
		return nil
	}
	port := uint16(0)
	c.handshake = func() error {
		port++
		return a.handshake(b, netip.AddrPortFrom(addrA.Addr(), port))
	}
	return c, nil
}
