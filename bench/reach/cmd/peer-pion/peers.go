package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/muster-p2p/muster/bench/reach/internal/pipe"
)

// message is what one side tells the other through the signalling.
type message struct {
	SDP       *webrtc.SessionDescription `json:"sdp,omitempty"`
	Candidate *webrtc.ICECandidateInit   `json:"candidate,omitempty"`
	Began     int64                      `json:"began,omitempty"` // with the offer: when the dialling process began, in Unix nanoseconds
}

// connect is one side: role is "dial" or "accept".
func connect(ctx context.Context, role, server, token string) error {
	other := map[string]string{"dial": "accept", "accept": "dial"}[role]
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pc, err := newPeerConnection(server)
	if err != nil {
		return err
	}
	defer closeSoon(pc)
	out := make(chan message, 64)
	go func() { cancel(send(ctx, server+token+"/"+other, out)) }()
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c != nil {
			init := c.ToJSON()
			out <- message{Candidate: &init}
		}
	})
	s := &side{pc: pc, out: out, done: func() { cancel(nil) }}
	if role == "dial" {
		err = s.offer()
	} else {
		pc.OnDataChannel(s.use)
	}
	if err != nil {
		return err
	}
	go func() { cancel(receive(ctx, server+token+"/"+role, s.heard)) }()
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func newPeerConnection(server string) (*webrtc.PeerConnection, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	var settings webrtc.SettingEngine
	settings.DetachDataChannels()
	settings.SetICEProxyDialer(proxyDialer{})
	at := net.JoinHostPort(u.Hostname(), turnPort)
	return webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{
		ICEServers: []webrtc.ICEServer{
			{URLs: []string{"stun:" + at}},
			{URLs: []string{"turn:" + at + "?transport=udp", "turn:" + at + "?transport=tcp"}, Username: user, Credential: secret},
		},
	})
}

type side struct {
	pc    *webrtc.PeerConnection
	out   chan<- message
	began time.Time // of the dialling process
	done  func()
}

func (s *side) offer() error {
	dc, err := s.pc.CreateDataChannel("pipe", nil)
	if err != nil {
		return err
	}
	s.began = pipe.Started
	s.use(dc)
	sdp, err := s.pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	s.out <- message{SDP: &sdp, Began: s.began.UnixNano()} // before its candidates
	return s.pc.SetLocalDescription(sdp)
}

func (s *side) heard(m message) error {
	if m.Candidate != nil {
		return s.pc.AddICECandidate(*m.Candidate)
	}
	if m.SDP == nil {
		return nil
	}
	if m.Began != 0 {
		s.began = time.Unix(0, m.Began)
	}
	if err := s.pc.SetRemoteDescription(*m.SDP); err != nil || m.SDP.Type != webrtc.SDPTypeOffer {
		return err
	}
	sdp, err := s.pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	s.out <- message{SDP: &sdp}
	return s.pc.SetLocalDescription(sdp)
}

// use makes a data channel the pipe, when it is open.
func (s *side) use(dc *webrtc.DataChannel) {
	dc.OnOpen(func() {
		conn, err := dc.Detach()
		if err != nil {
			return
		}
		go func() {
			defer s.done()
			pipe.Run(&gentle{conn, dc}, s.seen)
		}()
	})
}

// seen tells when the first byte came, and over which pair of candidates.
func (s *side) seen() {
	seen := pipe.Seen{Seen: "first", Path: "unknown"}
	if pair, err := s.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair(); err == nil && pair != nil {
		seen.Path = "direct"
		if pair.Local.Typ == webrtc.ICECandidateTypeRelay || pair.Remote.Typ == webrtc.ICECandidateTypeRelay {
			seen.Path = "relay"
		}
		seen.Detail = pair.Local.Typ.String() + "-" + pair.Remote.Typ.String() + "/" + pair.Local.Protocol.String()
	}
	pipe.Report(seen, s.began)
}

// gentle waits while too much is unsent: a data channel would buffer it all.
type gentle struct {
	conn interface {
		Read([]byte) (int, error)
		Write([]byte) (int, error)
	}
	dc *webrtc.DataChannel
}

const maxUnsent = 1 << 20

func (g *gentle) Read(p []byte) (int, error) { return g.conn.Read(p) }

func (g *gentle) Write(p []byte) (int, error) {
	for g.dc.BufferedAmount() > maxUnsent {
		time.Sleep(time.Millisecond)
	}
	return g.conn.Write(p)
}

// closeSoon gives up the allocations at the server within the time that the
// probe leaves.
func closeSoon(pc *webrtc.PeerConnection) {
	done := make(chan struct{})
	go func() { defer close(done); pc.Close() }()
	select {
	case <-done:
	case <-time.After(150 * time.Millisecond):
	}
}
