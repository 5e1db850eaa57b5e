package reach

import "time"

// Limits bound what strangers can have of a [Server]. Zero fields mean the
// defaults. A Rate with a negative PerSecond is no limit.
type Limits struct {
	// Parked bounds the callees that wait here.
	Parked int

	// ParkedPerSource bounds those from one IPv4 address or IPv6 /64.
	ParkedPerSource int

	// PendingPerCallee and PendingPerCaller bound the invitations that have no
	// reply yet.
	PendingPerCallee, PendingPerCaller int

	// Requests bounds the INVITE and RESERVE streams that are served at once,
	// RequestsPerPeer and RequestsPerSource those of one peer and of one source.
	// Of one too many the stream is reset.
	Requests, RequestsPerPeer, RequestsPerSource int

	// Forwards bounds the requests that are with other points, and those that
	// are here from other points; one too many is answered BUSY.
	Forwards int

	// ParkRate and CallerRate bound the requests of one peer, SourceRate those
	// of one IPv4 address or IPv6 /64; clients on the machine itself, 127.0.0.1
	// and ::1, have no source. CalleeRate bounds the invitations for one peer;
	// those of one source have the mean of CallerRate and CalleeRate, so that
	// neither one caller nor one source keeps all others out.
	ParkRate, CallerRate, CalleeRate, SourceRate Rate
}

// Default limits.
const (
	// DefaultParked is how many callees wait at a small point: one costs some
	// 70 KB with its connection.
	DefaultParked = 3000

	// DefaultParkedPerSource is an office or a carrier's NAT at its busiest.
	DefaultParkedPerSource = 256

	// DefaultPendingPerCallee is more than people call at once, as a reply takes
	// a round trip; DefaultPendingPerCaller is for a program that calls several.
	DefaultPendingPerCallee = 32
	DefaultPendingPerCaller = 8

	DefaultRequests        = 1024
	DefaultRequestsPerPeer = 16

	// DefaultForwards is a quarter of DefaultRequests: each costs a connection
	// to another point, for a round trip of the callee's as a rule.
	DefaultForwards = 256

	// DefaultRequestsPerSource leaves room for others: identities cost nothing,
	// and a stream that says nothing holds its place for FirstWait.
	DefaultRequestsPerSource = 256
)

func (l Limits) withDefaults() Limits {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&l.Parked, DefaultParked)
	set(&l.ParkedPerSource, DefaultParkedPerSource)
	set(&l.PendingPerCallee, DefaultPendingPerCallee)
	set(&l.PendingPerCaller, DefaultPendingPerCaller)
	set(&l.Requests, DefaultRequests)
	set(&l.RequestsPerPeer, DefaultRequestsPerPeer)
	set(&l.RequestsPerSource, DefaultRequestsPerSource)
	set(&l.Forwards, DefaultForwards)
	// A callee may come back often while its network is bad; a caller may be a
	// script; a callee that is called more often than this is being flooded.
	l.ParkRate = l.ParkRate.or(Rate{PerSecond: 0.5, Burst: 30})
	l.CallerRate = l.CallerRate.or(Rate{PerSecond: 5, Burst: 100})
	l.CalleeRate = l.CalleeRate.or(Rate{PerSecond: 10, Burst: 200})
	l.SourceRate = l.SourceRate.or(Rate{PerSecond: 50, Burst: 1000})
	return l
}

// Times of the protocol; docs/spec/reach.md, section "Times".
const (
	// PingInterval is how often a callee pings, DeadAfter how long either end
	// hears nothing until it takes the other one for gone: two pings may be
	// lost, and half-open streams are noticed in less than 20 s.
	PingInterval = 5 * time.Second
	DeadAfter    = 15 * time.Second

	// FirstWait bounds how long a new stream may take to say what it wants.
	FirstWait = 5 * time.Second

	// ReplyWait bounds how long a callee may take to decide.
	ReplyWait = 5 * time.Second

	// WriteWait bounds how long a peer may take nothing while there is a
	// message for it: the stream of a slow reader is reset.
	WriteWait = 2 * time.Second

	// ForwardWait bounds how long another point may take for a request, its
	// hooks and the callee's reply included, and what it takes to find it; of
	// that findWait is for the directory and dialPointWait for the connection.
	ForwardWait   = 8 * time.Second
	findWait      = time.Second
	dialPointWait = 2 * time.Second

	// AuthorizeWait bounds the hooks of a Config, which fail closed.
	AuthorizeWait = time.Second
)
