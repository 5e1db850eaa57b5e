package muster

import (
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// Limits of a host made by [NewHost]. go-libp2p's own are for one peer among
// others (128 connections on a machine of 8 GB, 8 of one address, a new one
// each five seconds); a point has thousands of clients, and offices of them
// behind one address.
const (
	// streamsPerConn is how many streams a connection may have on average: one
	// for each protocol, and some that end.
	streamsPerConn = 8

	// pendingConns bounds the connections that are not secured yet: a
	// handshake takes a few round trips and 32 KiB.
	pendingConns = 1024

	// perSource and perNet bound the connections of one IPv4 address or IPv6
	// /64, and of one /24 or /48, as a rendezvous point bounds its peers.
	perSource, perNet = 256, 1024

	// newPerSource and burstPerSource bound new connections a second of one
	// source: an office that comes back after a power cut.
	newPerSource, burstPerSource = 20, 512

	// connMemory is what a connection may take of the memory that is accounted
	// for: buffers of the muxer.
	connMemory = 512 << 10
)

// newResources returns the resource manager of a host with up to conns
// connections.
func newResources(conns int) (network.ResourceManager, error) {
	total := rcmgr.ResourceLimits{
		Conns: rcmgr.LimitVal(conns), ConnsInbound: rcmgr.LimitVal(conns), ConnsOutbound: rcmgr.LimitVal(conns),
		FD:      rcmgr.LimitVal(conns),
		Streams: rcmgr.LimitVal(conns * streamsPerConn), StreamsInbound: rcmgr.LimitVal(conns * streamsPerConn),
		StreamsOutbound: rcmgr.LimitVal(conns * streamsPerConn),
		Memory:          rcmgr.LimitVal64(max(int64(conns)*connMemory, 128<<20)),
	}
	pending := rcmgr.LimitVal(min(conns, pendingConns))
	limits := rcmgr.PartialLimitConfig{
		System: total, AllowlistedSystem: total,
		Transient: rcmgr.ResourceLimits{
			Conns: pending, ConnsInbound: pending, ConnsOutbound: pending, FD: pending,
			Streams: 2 * pending, StreamsInbound: 2 * pending, StreamsOutbound: 2 * pending,
			Memory: rcmgr.LimitVal64(pending) * connMemory,
		},
		// Rooms bound the streams of their own protocols more closely.
		ProtocolDefault: rcmgr.ResourceLimits{
			Streams: total.Streams, StreamsInbound: total.Streams, StreamsOutbound: total.Streams, Memory: total.Memory,
		},
		ServiceDefault: rcmgr.ResourceLimits{
			Streams: total.Streams, StreamsInbound: total.Streams, StreamsOutbound: total.Streams, Memory: total.Memory,
		},
	}
	v4 := []rcmgr.ConnLimitPerSubnet{{ConnCount: perSource, PrefixLength: 32}, {ConnCount: perNet, PrefixLength: 24}}
	v6 := []rcmgr.ConnLimitPerSubnet{{ConnCount: perSource, PrefixLength: 64}, {ConnCount: perNet, PrefixLength: 48}}
	scaled := rcmgr.DefaultLimits
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Build(scaled.AutoScale())),
		rcmgr.WithLimitPerSubnet(v4, v6), rcmgr.WithConnRateLimiters(newConnRates()), rcmgr.WithMetricsDisabled())
}

func newConnRates() *rate.Limiter {
	each := rate.Limit{RPS: newPerSource, Burst: burstPerSource}
	all := rate.Limit{RPS: newPerSource * perNet / perSource, Burst: burstPerSource * perNet / perSource}
	return &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, {Prefix: netip.MustParsePrefix("::1/128")}, // no limit
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: each}, {PrefixLength: 24, Limit: all}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 64, Limit: each}, {PrefixLength: 48, Limit: all}},
		},
	}
}
