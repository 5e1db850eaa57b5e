package rdv

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/muster-p2p/muster/rdv/wire"
)

const (
	// DefaultMaxHandOvers is how many clients may be with other servers at a
	// time: two descriptors and some 30 KiB each.
	DefaultMaxHandOvers = 2048

	// handOverTimeout bounds a hand-over until the other server has been told
	// of the client, which takes three round trips. A client whose server
	// vanished without a word waits twice that long.
	handOverTimeout = 3 * time.Second

	// maxHanding is how many hand-overs begin at a time. A handshake is a
	// millisecond of work for each of two servers: with hundreds at once, as
	// after a point was restarted, none would be done in time.
	maxHanding = 32

	// swiftTries is how often a client is passed on without a pause. Two
	// servers that refer to each other have a reason: a peer that has just
	// left, or a network that is split.
	swiftTries = 3

	// The bounds of the pause after that.
	minHandOverPause = 100 * time.Millisecond
	maxHandOverPause = 2 * time.Second
)

// Outcomes of a hand-over, for the metrics.
type handOverOutcome uint8

const (
	handOverTaken   handOverOutcome = iota // the other server has the client
	handOverNobody                         // nobody waits there any more
	handOverFailed                         // the other server was not reached
	handOverBusy                           // it was, and did not take the client
	handOverLost                           // it took the client, and went before it answered
	handOverFull                           // of MaxHandOvers
	handOverIn                             // the other way: a client was taken over
	handOverRefused                        // and one was not
	handOverOutcomes
)

func (o handOverOutcome) String() string {
	return [...]string{"taken", "nobody", "failed", "busy", "lost", "full", "in", "refused"}[o]
}

var errBusy = errors.New("rdv: point takes no more clients now")

// handOver passes a client that has left the lobby on to the server that has
// its token, and copies until one of them is done. If that server is not there
// the client comes back into the lobby.
func (s *Server) handOver(c *client, claim Claim) {
	defer s.handlers.Done()
	defer func() {
		s.mu.Lock()
		s.shared.out--
		s.mu.Unlock()
	}()
	defer s.recoverHandler(&c.conn, &c.conn)
	outcome, err := s.pass(c, claim.URL)
	s.stats.handOvers[outcome].Add(1)
	s.log().Debug("client handed over", append(clientAttrs(c), "to", claim.URL, "outcome", outcome.String(), "err", err)...)
	switch outcome {
	case handOverTaken:
		return
	case handOverBusy:
	default:
		c.dead = claim.ID
	}
	c.tries++
	s.reenter(c)
}

// reenter takes back a client that another server did not want.
func (s *Server) reenter(c *client) {
	if c.conn.br != nil { // TLS, and it spoke while it was under way
		s.stats.early.Add(1)
		s.stats.answered(http.StatusBadRequest)
		refuseEarly(c.conn.Conn, reasonEarly)
		return
	}
	if err := s.enter(c); err != nil {
		s.log().Debug("client not taken back", "err", err)
	}
}

// pauseOf is how long a client waits until its token is claimed, so that two
// servers do not play ball.
func pauseOf(tries int) time.Duration {
	if tries < swiftTries {
		return 0
	}
	pause := min(minHandOverPause<<min(tries-swiftTries, 10), maxHandOverPause)
	return pause/2 + rand.N(pause/2)
}

// pass does what handOver does, without the return into the lobby.
func (s *Server) pass(c *client, to string) (handOverOutcome, error) {
	x, outcome, err := s.offer(c, to)
	if outcome != handOverTaken {
		// A server that is slow is not gone: it is asked once more.
		if slow := errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded); slow && c.tries == 0 {
			outcome = handOverBusy
		}
		return outcome, err
	}
	return s.ferry(c, x)
}

// offer asks a server to take a client. With handOverTaken it has, and the
// connection is the client's.
func (s *Server) offer(c *client, to string) (*tls.Conn, handOverOutcome, error) {
	frame, err := c.frame()
	if err != nil {
		return nil, handOverBusy, err
	}
	x, err := s.reach(to)
	switch {
	case errors.Is(err, errBusy):
		return nil, handOverBusy, err
	case err != nil:
		return nil, handOverFailed, err
	}
	verdict, err := introduceTo(s.ctx, x, frame)
	switch {
	case err != nil:
		_ = x.Close()
		return nil, handOverFailed, err
	case verdict == wire.HandOverTaken:
		return x, handOverTaken, nil
	case verdict == wire.HandOverNobody:
		_ = x.Close()
		return nil, handOverNobody, nil
	default:
		_ = x.Close()
		return nil, handOverFailed, fmt.Errorf("rdv: point answered %q", verdict)
	}
}

// reach connects to another server, when it is its turn.
func (s *Server) reach(to string) (*tls.Conn, error) {
	select {
	case s.shared.handing <- struct{}{}:
		defer func() { <-s.shared.handing }()
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
	ctx, cancel := context.WithTimeout(s.ctx, handOverTimeout)
	defer cancel()
	return s.dialPoint(ctx, to)
}

// frame is the client as another server is told of it.
func (c *client) frame() ([]byte, error) {
	r := c.conn.Request
	h := wire.HandOver{
		Method: c.meta.Method, Token: c.meta.Token, Observed: c.observed, SelfAddrs: c.meta.SelfAddrs,
		Host: r.Host, URL: r.URL.String(), RequestURI: r.RequestURI, RemoteAddr: r.RemoteAddr,
		Response: c.conn.fields,
	}
	for name, values := range r.Header {
		for _, v := range values {
			h.Header = append(h.Header, wire.Field{Name: name, Value: v})
		}
	}
	return h.AppendTo(nil)
}

// dialPoint connects to another server of the lobby, and is sure that it is
// one.
func (s *Server) dialPoint(ctx context.Context, to string) (*tls.Conn, error) {
	u, err := url.Parse(to)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("rdv: %q is no hand-over URL", to)
	}
	d := net.Dialer{}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), portOf(u)))
	if err != nil {
		return nil, fmt.Errorf("rdv: dial point: %w", err)
	}
	x, err := s.knock(ctx, conn, u)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return x, nil
}

func (s *Server) knock(ctx context.Context, conn net.Conn, u *url.URL) (*tls.Conn, error) {
	deadline, _ := ctx.Deadline()
	if err := errors.Join(conn.SetDeadline(deadline), setDeadTimeout(conn, deadTimeout)); err != nil {
		return nil, err
	}
	plain := conn
	stop := context.AfterFunc(ctx, func() { _ = plain.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if u.Scheme == "https" {
		outer := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
		if err := outer.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("rdv: point's certificate: %w", err)
		}
		conn = outer
	}
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: upgrade\r\nUpgrade: %s\r\nAuthorization: %s\r\n\r\n",
		u.RequestURI(), u.Host, wire.HandOverProtocol, s.shared.pin.gate)
	if err != nil {
		return nil, fmt.Errorf("rdv: ask point: %w", err)
	}
	// Nothing is read ahead: the other server waits for our handshake.
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, MaxHeader)), nil)
	if err != nil {
		return nil, fmt.Errorf("rdv: ask point: %w", err)
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		return nil, errBusy
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("rdv: point at %s answered %s", u.Host, resp.Status)
	}
	x := tls.Client(conn, s.shared.pin.tls)
	if err := x.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("rdv: secure connection to point: %w", err)
	}
	return x, nil
}

// introduceTo sends a client's description, and returns what is said to it. The
// other server acts on it before it answers: who gave up early would have left
// the peer there with nobody. So the answer is waited for as long as the
// connection stands.
func introduceTo(ctx context.Context, x *tls.Conn, frame []byte) (byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = x.NetConn().Close() })
	defer stop()
	if err := x.SetDeadline(time.Now().Add(deadTimeout)); err != nil {
		return 0, err
	}
	if _, err := x.Write(frame); err != nil {
		return 0, fmt.Errorf("rdv: hand over: %w", err)
	}
	var b [1]byte
	if _, err := io.ReadFull(x, b[:]); err != nil {
		return 0, fmt.Errorf("rdv: hand over: %w", err)
	}
	return b[0], x.SetDeadline(time.Time{})
}

// ferry copies between a client and the server that has taken it, once that
// has something to say: until then the client waits, and must neither leave
// nor speak unnoticed.
func (s *Server) ferry(c *client, x *tls.Conn) (handOverOutcome, error) {
	stop := context.AfterFunc(s.shared.open, func() { _ = x.NetConn().Close() })
	var settled atomic.Bool
	var early, gone bool
	watch := watchByRead(c, func(_ *client, spoke bool) {
		if settled.CompareAndSwap(false, true) {
			early, gone = spoke, !spoke
			_ = x.NetConn().Close()
		}
	})
	first := make([]byte, restBuffer)
	n, err := x.Read(first)
	settled.Store(true)
	watch.end(&c.conn)
	stop()
	switch {
	case gone:
		s.stats.gone.Add(1)
		_, _ = x.NetConn().Close(), c.conn.Close()
		return handOverTaken, nil
	case early:
		_ = x.NetConn().Close()
		s.stats.early.Add(1)
		s.stats.answered(http.StatusBadRequest)
		refuseEarly(c.conn.Conn, reasonEarly)
		return handOverTaken, nil
	case n == 0 && s.shared.open.Err() != nil:
		_ = x.NetConn().Close()
		s.answer(c, http.StatusServiceUnavailable, reasonClosed)
		return handOverTaken, nil
	case n == 0:
		_ = x.NetConn().Close()
		return handOverLost, err
	}
	if err := s.firstWords(c, first[:n]); err != nil {
		_, _ = x.NetConn().Close(), c.conn.Close()
		return handOverTaken, err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	w := &lastWord{Conn: &c.conn, x: x, cancel: cancel, done: make(chan struct{})}
	_, _, err = s.carrier.Relay(ctx, w, x, x, &c.conn)
	w.wait()
	return handOverTaken, err
}

func (s *Server) firstWords(c *client, b []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(DefaultWriteTimeout)); err != nil {
		return err
	}
	if _, err := c.conn.Write(b); err != nil {
		return err
	}
	return c.conn.SetWriteDeadline(time.Time{})
}

// A lastWord is a client to whom another server writes. TLS tells the end of
// one direction from that of the connection: after the first it waits for the
// other, and then ends the client's as well, as that server would have done.
type lastWord struct {
	*Conn
	x      *tls.Conn
	cancel context.CancelFunc
	begun  atomic.Bool
	done   chan struct{}
}

func (w *lastWord) CloseWrite() error {
	err := w.Conn.CloseWrite()
	w.begun.Store(true)
	go func() {
		defer close(w.done)
		// TLS is over in this direction, so nothing but the end can come.
		_, _ = io.Copy(io.Discard, io.LimitReader(w.x.NetConn(), MaxHeader))
		w.cancel()
	}()
	return err
}

// wait returns when nothing of w runs any more; the connections are closed.
func (w *lastWord) wait() {
	if w.begun.Load() {
		<-w.done
	}
}
