package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-reuseport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/pubsub"
	"github.com/muster-p2p/muster/rdv"
	rdvwire "github.com/muster-p2p/muster/rdv/wire"
	"github.com/muster-p2p/muster/reach"
	"github.com/muster-p2p/muster/rendezvous"
)

// A prober looks at a network from one port: what others see of that tells how
// a NAT maps it.
type prober struct {
	opts pointOptions
	host host.Host

	mu     sync.Mutex // guards what follows
	report netReport
	obs    []observation
}

// A meetingPlace is an rdv server, and what lets this machine use it.
type meetingPlace struct{ url, token, bearer string }

// probe looks until all have answered, or ctx ends.
func probe(ctx context.Context, o pointOptions) (r *netReport, err error) {
	h, err := muster.NewHost(muster.HostConfig{Key: o.Key, Listen: []ma.Multiaddr{
		ma.StringCast("/ip4/0.0.0.0/tcp/0"), ma.StringCast("/ip6/::/tcp/0"),
	}})
	if err != nil {
		return nil, fail(exitLocal, err, "")
	}
	defer closing(h, &err)
	p := &prober{opts: o, host: h, report: netReport{Local: localAddrs(), Points: []pointReport{}, Servers: []serverReport{}, Seen: []string{}}}
	places := p.points(ctx)
	for _, u := range o.Servers {
		places = append(places, meetingPlace{url: u, token: strings.ToLower(rand.Text()), bearer: o.Token})
	}
	var wg sync.WaitGroup
	p.report.Servers = make([]serverReport, len(places))
	for i, place := range places {
		wg.Go(func() { p.report.Servers[i] = p.server(ctx, place) })
	}
	wg.Wait()
	p.report.NAT = classify(p.report.Local, p.obs)
	for _, o := range p.obs {
		if a := o.seen.Addr().String(); !slices.Contains(p.report.Seen, a) {
			p.report.Seen = append(p.report.Seen, a)
		}
	}
	return &p.report, nil
}

// port is the one that the host listens on and dials from.
func (p *prober) port() uint16 {
	for _, a := range p.host.Network().ListenAddresses() {
		if text, err := a.ValueForProtocol(ma.P_TCP); err == nil && strings.HasPrefix(a.String(), "/ip4/") {
			n, _ := strconv.ParseUint(text, 10, 16) // is one
			return uint16(n)
		}
	}
	return 0
}

// reached notes whom this machine has reached, and what they see of it.
func (p *prober) reached(o observation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.target.Addr().Unmap().Is4() {
		p.report.IPv4 = true
	} else {
		p.report.IPv6 = true
	}
	if o.seen.IsValid() {
		p.obs = append(p.obs, o)
	}
}

// points looks from all points at once, and returns where they let this
// machine meet others.
func (p *prober) points(ctx context.Context) (places []meetingPlace) {
	p.report.Points = make([]pointReport, len(p.opts.Points))
	found := make([][]meetingPlace, len(p.opts.Points))
	var wg sync.WaitGroup
	for i, info := range p.opts.Points {
		wg.Go(func() { p.report.Points[i], found[i] = p.point(ctx, info) })
	}
	wg.Wait()
	return slices.Concat(found...)
}

func (p *prober) point(ctx context.Context, info peer.AddrInfo) (r pointReport, places []meetingPlace) {
	r = pointReport{Peer: info.ID.String(), Reach: "not asked"}
	sub, err := p.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		r.Error = err.Error()
		return r, nil
	}
	defer func() { _ = sub.Close() }()
	if err := p.host.Connect(network.WithForceDirectDial(ctx, "netcheck"), info); err != nil {
		r.Error = shortDialError(err)
		return r, nil
	}
	p.identified(ctx, info.ID, sub.Out(), &r)
	select {
	case res := <-ping.Ping(ctx, p.host, info.ID):
		r.Millis = millisOf(res.RTT)
	case <-ctx.Done():
	}
	client, err := reach.NewClient(p.host, reach.ClientConfig{AccessToken: p.opts.Token})
	if err != nil {
		r.Error = err.Error()
		return r, nil
	}
	inv, err := client.Reserve(ctx, info)
	if err != nil {
		r.Reach = err.Error()
		return r, nil
	}
	r.Reach = "ok"
	for _, u := range inv.Servers {
		places = append(places, meetingPlace{u, inv.Token, inv.Bearer})
	}
	return r, places
}

// identified waits for what the point says of itself and of us.
func (p *prober) identified(ctx context.Context, id peer.ID, events <-chan any, r *pointReport) {
	for {
		select {
		case ev, ok := <-events:
			e, is := ev.(event.EvtPeerIdentificationCompleted)
			if !ok {
				return
			}
			if !is || e.Peer != id {
				continue
			}
			r.Addr = e.Conn.RemoteMultiaddr().String()
			o := observation{target: addrPort(e.Conn.RemoteMultiaddr()), seen: addrPort(e.ObservedAddr), local: addrPort(e.Conn.LocalMultiaddr()).Port()}
			if o.seen.IsValid() {
				r.Observed = o.seen.String()
			}
			p.reached(o)
			for _, proto := range e.Protocols {
				if proto == rendezvous.ProtocolID || proto == rendezvous.WakuProtocolID || proto == reach.ProtocolID || proto == pubsub.GossipSubID_v12 {
					r.Protocols = append(r.Protocols, string(proto))
				}
			}
			return
		case <-ctx.Done():
			return
		}
	}
}

func addrPort(a ma.Multiaddr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	na, err := manet.ToNetAddr(a)
	if err != nil {
		return netip.AddrPort{}
	}
	return rdv.AddrPortFrom(na)
}

// shortDialError is the first line of what go-libp2p says, which has one for
// each address.
func shortDialError(err error) string {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// server looks from an rdv server: its clock, what it sees of our port, and
// whether bytes go through its relay, between two connections of ours.
func (p *prober) server(ctx context.Context, place meetingPlace) (r serverReport) {
	r = serverReport{URL: place.url, Relay: "not asked"}
	if err := p.clock(ctx, &r); err != nil {
		r.Error = err.Error()
		return r
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	accepted := make(chan error, 1)
	go func() { accepted <- p.accept(ctx, place, &r) }()
	err := p.dial(ctx, place, &r)
	if err != nil {
		cancel()
	}
	if aerr := <-accepted; err == nil {
		err = aerr
	}
	if err != nil {
		r.Relay = err.Error()
		return r
	}
	r.Relay = "ok"
	p.mu.Lock()
	p.report.Relay = true
	p.mu.Unlock()
	return r
}

// clock asks the server for anything: the answer is an error with a date.
func (p *prober) clock(ctx context.Context, r *serverReport) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: p.opts.TLS, Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	begun := time.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return err
	}
	took := time.Since(begun)
	_ = resp.Body.Close()
	r.Millis = millisOf(took)
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		// A date is of whole seconds: half of one is the middle of what it can mean.
		r.Skew = date.Add(time.Second / 2).Sub(begun.Add(took / 2)).Round(time.Second).Seconds()
	}
	return nil
}

// probeLine is what goes through the relay, there and back.
const probeLine = "muster netcheck\n"

// dial is the end that asks as a client does.
func (p *prober) dial(ctx context.Context, place meetingPlace, r *serverReport) error {
	c := &rdv.Client{AddrSpaces: rdv.NoSpaces, Picker: rdv.PickFirst(), TlsConfig: p.opts.TLS, Proxy: http.ProxyFromEnvironment}
	conn, resp, err := c.Dial(ctx, place.url, place.token, bearerHeader(place.bearer))
	if err != nil {
		if resp != nil {
			return fmt.Errorf("refused with %s", resp.Status)
		}
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	begun := time.Now()
	if _, err := io.WriteString(conn, probeLine); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, make([]byte, len(probeLine))); err != nil {
		return err
	}
	r.RelayRTT = millisOf(time.Since(begun))
	return nil
}

func bearerHeader(token string) http.Header {
	if token == "" {
		return nil
	}
	return http.Header{"Authorization": {"Bearer " + token}}
}

// accept is the other end: it comes from the prober's port, and echoes.
func (p *prober) accept(ctx context.Context, place meetingPlace, r *serverReport) error {
	conn, u, err := p.connect(ctx, place.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	req := rdvwire.Request{Method: rdvwire.Accept, Host: u.Host, Path: strings.TrimSuffix(u.EscapedPath(), "/"), Token: place.token}
	if place.bearer != "" {
		req.Fields = []rdvwire.Field{{Name: "Authorization", Value: "Bearer " + place.bearer}}
	}
	b, err := req.AppendTo(nil)
	if err != nil {
		return err
	}
	if _, err := conn.Write(b); err != nil {
		return err
	}
	br := bufio.NewReaderSize(io.LimitReader(conn, 16<<10), 4<<10) // a response and a line
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("refused with %s", resp.Status)
	}
	o := observation{target: rdv.AddrPortFrom(conn.RemoteAddr()), local: rdv.AddrPortFrom(conn.LocalAddr()).Port()}
	if seen, err := rdvwire.ParseAddr(resp.Header.Get(rdvwire.FieldObservedAddr)); err == nil {
		o.seen = seen
		r.Observed = seen.String()
	}
	p.reached(o)
	if _, err := br.ReadString('\n'); err != nil { // CONTINUE
		return err
	}
	line := make([]byte, len(probeLine))
	if _, err := io.ReadFull(br, line); err != nil {
		return err
	}
	if _, err := conn.Write(line); err != nil {
		return err
	}
	_, _ = br.ReadByte() // until the other end has read it and closes
	return nil
}

// connect connects to a server from the prober's port, if it can be had.
func (p *prober) connect(ctx context.Context, rawURL string) (net.Conn, *url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, nil, err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	addr := net.JoinHostPort(u.Hostname(), port)
	same := net.Dialer{Control: reuseport.Control, LocalAddr: &net.TCPAddr{Port: int(p.port())}}
	conn, err := same.DialContext(ctx, "tcp", addr)
	if err != nil {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		return nil, nil, err
	}
	if u.Scheme == "https" {
		cfg := &tls.Config{MinVersion: tls.VersionTLS12}
		if p.opts.TLS != nil {
			cfg = p.opts.TLS.Clone()
		}
		cfg.ServerName, cfg.NextProtos = u.Hostname(), []string{"http/1.1"}
		return tls.Client(conn, cfg), u, nil
	}
	return conn, u, nil
}

func millisOf(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
