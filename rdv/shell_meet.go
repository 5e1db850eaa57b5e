package rdv

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/muster-p2p/muster/rdv/wire"
)

// meetHunt is how long an [Encounter] looks for direct connections. A race for
// one lasts some two seconds; the rest is for far peers and lost packets.
const meetHunt = 10 * time.Second

// An Encounter is a pair of clients that a server has introduced to each
// other, and that has not settled for one connection: the relay is there to be
// used at once, and direct connections come as they are made.
type Encounter struct {
	// Relay is the connection through the server, ready for data of both
	// sides. The dialer's first Write carries the CONTINUE that makes the
	// server relay, so the dialer has to speak first, within the time that a
	// server gives it to choose (10 s, [DefaultCommandTimeout]). The caller
	// owns it, and closes it.
	Relay *Conn

	// RTT is the round trip to the server, or to the proxy before it.
	RTT time.Duration

	hunt *hunt
}

// Meet is Do for applications that use every connection to the peer and not
// one: it returns as soon as the server has introduced the peers, with the
// relayed connection. Both peers have to call Meet: a peer that called Do takes
// the relay for the dialer's choice and stops looking for direct connections.
// The server may be any that speaks rdv/1. The client's Picker is not asked; its
// Timeout, like ctx, bounds the time until Meet returns and nothing after that.
//
// The caller must read [Encounter.Direct] until it is closed, or call
// [Encounter.Close].
func (c *Client) Meet(ctx context.Context, method, addr, token string, header http.Header) (*Encounter, *http.Response, error) {
	s, err := c.newSession(method, addr, token, header)
	if err != nil {
		return nil, nil, err
	}
	until := ctx
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		until, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	relay, resp, err := s.introduce(until)
	if err != nil {
		return nil, resp, s.explain(until, err)
	}
	hunting, cancel := context.WithTimeout(context.WithoutCancel(ctx), meetHunt)
	e := &Encounter{Relay: s.opening(relay), RTT: s.rtt, hunt: s.newHunt(hunting)}
	e.hunt.opening = s.opening
	go func() {
		defer cancel()
		e.hunt.run()
	}()
	return e, resp, nil
}

// Direct returns the direct connections as they are made, each greeted as
// rdv/1 has it, often two for one pair of addresses. As on the relay, the
// dialer's first Write on one carries the CONTINUE. The caller owns what it
// receives. The channel is closed when the hunt is over, after ten seconds at
// most.
func (e *Encounter) Direct() <-chan *Conn { return e.hunt.found }

// Close ends the hunt and waits until it has ended. It closes no connection
// that the caller owns. It may be called more than once.
func (e *Encounter) Close() error {
	e.hunt.stop()
	return nil
}

// opening returns c as an application uses it that did not wait for a choice:
// the dialer's CONTINUE goes before its first data, and comes before the
// acceptor's.
func (s *session) opening(c *Conn) *Conn {
	o := &opening{Conn: c, inner: c, dialer: s.method == DIAL}
	return &Conn{Conn: o, Meta: c.Meta, IsRelay: c.IsRelay}
}

type opening struct {
	net.Conn
	inner  *Conn
	dialer bool

	read, write sync.Once // of the first use
	readErr     error
}

// Read is [Conn.Read] behind the dialer's line.
func (o *opening) Read(p []byte) (int, error) {
	if !o.dialer {
		o.read.Do(func() { o.readErr = o.inner.readContinue() })
		if o.readErr != nil {
			return 0, o.readErr
		}
	}
	return o.inner.Read(p)
}

// Write is [Conn.Write]; the line goes out in one piece with the first data.
func (o *opening) Write(p []byte) (n int, err error) {
	first := false
	if o.dialer {
		o.write.Do(func() {
			first = true
			line := wire.Command{}.AppendTo(make([]byte, 0, maxCommand+len(p)))
			n, err = o.inner.Write(append(line, p...))
			n = max(n-len(line), 0)
		})
	}
	if first {
		return n, err
	}
	return o.inner.Write(p)
}

// CloseWrite is [Conn.CloseWrite].
func (o *opening) CloseWrite() error { return o.inner.CloseWrite() }
