package main

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

// codecs is the packet path of one implementation: node A has a session with
// node B.
type codecs struct {
	encodePing  func() error
	decodePing  func() error
	encodeNodes func() error // 4 records
	decodeNodes func() error // 4 records, not verified
	record      func() error // parse and verify a record
	again       func() error // the same bytes again, as the node does it
	handshake   func() error // both sides, from WHOAREYOU to session, with record
}

var addrA = netip.MustParseAddrPort("127.0.0.1:30303")

func wireBench(c config) error {
	ours, err := musterCodecs()
	if err != nil {
		return fmt.Errorf("muster: %w", err)
	}
	theirs, err := gethCodecs()
	if err != nil {
		return fmt.Errorf("go-ethereum: %w", err)
	}
	for _, r := range []struct {
		name         string
		ours, theirs func() error
		aim          float64
	}{
		{"encode PING", ours.encodePing, theirs.encodePing, 6},
		{"decode PING", ours.decodePing, theirs.decodePing, 6},
		{"encode NODES, 4 records", ours.encodeNodes, theirs.encodeNodes, 0},
		{"decode NODES, 4 records, unverified", ours.decodeNodes, theirs.decodeNodes, 6},
		{"record, parse and verify", ours.record, theirs.record, 0},
		{"record seen before", ours.again, theirs.again, 0},
		{"handshake with record, both sides", ours.handshake, theirs.handshake, 0},
	} {
		if err := c.compare(r.name, r.ours, r.theirs, r.aim); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

// compare prints time and allocations of one operation.
func (c config) compare(name string, ours, theirs func() error, aim float64) error {
	var best [2]testing.BenchmarkResult
	for i := range c.rounds {
		for k, op := range []func() error{ours, theirs} {
			var failed error
			r := testing.Benchmark(func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := op(); err != nil {
						failed = err
						b.FailNow()
					}
				}
			})
			if failed != nil {
				return failed
			}
			if r.N == 0 {
				return errors.New("not measured")
			}
			if i == 0 || nsPerOp(r) < nsPerOp(best[k]) {
				best[k] = r
			}
		}
	}
	c.row(name, "ns", nsPerOp(best[0]), nsPerOp(best[1]), less, aim)
	fmt.Fprintf(c.out, "%-44s %14d %14d\n", "  allocations", best[0].AllocsPerOp(), best[1].AllocsPerOp())
	return nil
}

func nsPerOp(r testing.BenchmarkResult) float64 { return float64(r.T.Nanoseconds()) / float64(r.N) }
