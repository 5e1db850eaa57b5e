package wire_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-p2p/muster/rendezvous/wire"
)

// What parses is written and read back the same.
func FuzzParse(f *testing.F) {
	for _, v := range vectors {
		f.Add(uint8(v.dialect), wire.Append(nil, v.dialect, &v.msg))
	}
	f.Fuzz(func(t *testing.T, d uint8, b []byte) {
		dialect := wire.Dialect(d % 2)
		const most = 50
		var m wire.Message
		if err := wire.Parse(dialect, b, &m, most); err != nil {
			return
		}
		if len(m.Records) > most || len(m.Text) > wire.MaxText {
			t.Fatalf("bounds: %d records, %d bytes of text", len(m.Records), len(m.Text))
		}
		var back wire.Message
		if err := wire.Parse(dialect, wire.Append(nil, dialect, &m), &back, most); err != nil {
			t.Fatalf("our own bytes: %v", err)
		}
		m.More = false
		if diff := cmp.Diff(normal(m), normal(back)); diff != "" {
			t.Error(diff)
		}
	})
}

// normal hides what our writer writes though it was absent.
func normal(m wire.Message) wire.Message {
	if len(m.ID) == 0 {
		m.ID = nil
	}
	if len(m.Record) == 0 {
		m.Record = nil
	}
	recs := make([]wire.Registration, len(m.Records))
	for i, r := range m.Records {
		if len(r.Record) == 0 {
			r.Record = nil
		}
		recs[i] = r
	}
	m.Records = recs
	return m
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte("\x0a\x02\x08\x01\x12\x02\x03\x01\x1a\x00\x2a\x00"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if e, err := wire.ParseEnvelope(b); err == nil {
			_ = e.AppendSigned(nil, "libp2p-peer-record")
			_, _ = wire.ParsePeerRecord(e.Payload, 64)
		}
	})
}

func FuzzPeerInfo(f *testing.F) {
	f.Add(wire.AppendPeerInfo(nil, &wire.PeerRecord{ID: []byte{0, 1, 2}, Addrs: [][]byte{{4, 127, 0, 0, 1}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := wire.ParsePeerInfo(b, 8)
		if err != nil {
			return
		}
		back, err := wire.ParsePeerInfo(wire.AppendPeerInfo(nil, &r), 8)
		if err != nil || string(back.ID) != string(r.ID) || len(back.Addrs) != len(r.Addrs) {
			t.Errorf("%v: %+v is not %+v", err, back, r)
		}
	})
}
