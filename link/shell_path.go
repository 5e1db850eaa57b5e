package link

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/link/wire"
	"github.com/muster-p2p/muster/rdv"
)

const (
	// alpn keeps the handshakes of links apart from others with the same keys
	// (RFC 7301).
	alpn = "muster-link/1"

	// secureTimeout bounds the handshake on a path and the exchange of HELLOs.
	secureTimeout = 10 * time.Second

	// peekLen is the buffer through which frames are read: room for small
	// ones. The bytes of larger ones go past it.
	peekLen = 512
)

// A stream is what a path consists of: authenticated, in order, encrypted, to
// the peer. *tls.Conn is one.
type stream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
	CloseWrite() error
}

// A carrier is what lies below a stream.
type carrier interface {
	hold()                // collect what is written
	flush() error         // write it
	lastHeard() time.Time // when anything came
	Close() error         // at once, without a word
}

// A path is a stream to the peer and what belongs to it. The fields below mu
// are guarded by the mutex of the link, once it has one.
type path struct {
	id      int
	kind    Kind
	addr    netip.AddrPort
	local   netip.Addr // this machine's
	since   time.Time
	remote  peer.ID
	stream  stream
	carrier carrier
	r       *bufio.Reader
	binding [exporterLen]byte
	origin  secret        // of a session that begins with this path
	hello   wire.Hello    // the dialer's, where it has been read before the path has a link
	done    chan struct{} // closed when nobody reads any more
	rtt     time.Duration // of the exchange of HELLOs; zero: not measured

	// mu of the link:
	ctl      control
	greeted  bool // the peer's HELLO was read
	flushing bool // a goroutine is writing
	gone     bool
	sent     uint64 // bytes of the application, repeated ones too
	received uint64
}

// control is what a path has to send besides data. Each kind has one place: a
// newer one takes that of an older.
type control struct {
	hello, ack, echo, bye bool
	call                  bool   // MEET without a number
	pong, ping            uint64 // ping zero: none
	meet                  uint32 // zero: none
	close                 wire.Close
}

func (c *control) empty() bool { return *c == control{} }

// errMute is what a handshake ends with that the peer takes no part in.
var errMute = errors.New("the peer is silent")

// secure makes a path of a connection: the handshake of TLS 1.3, with remote
// pinned unless it is empty, within some time. It owns raw.
func (e *Endpoint) secure(ctx context.Context, raw *rdv.Conn, dialer bool, remote peer.ID, patience time.Duration) (*path, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errMute)
	defer cancel()
	p := &path{kind: Direct, addr: rdv.AddrPortFrom(raw.RemoteAddr()), local: rdv.AddrPortFrom(raw.LocalAddr()).Addr()}
	if raw.IsRelay {
		p.kind = Relay
	}
	rc := &rawConn{Conn: raw, pool: &e.holds}
	p.carrier = rc
	t, err := e.handshake(ctx, rc, dialer, remote, p)
	if err != nil {
		raw.Close() //nolint:errcheck // the handshake's error says more
		if ctx.Err() != nil && !errors.Is(err, ErrIdentity) {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("link: secure the %v path: %w", p.kind, err)
	}
	p.stream, p.r, p.since = t, bufio.NewReaderSize(t, peekLen), time.Now()
	return p, nil
}

func (e *Endpoint) handshake(ctx context.Context, rc *rawConn, dialer bool, remote peer.ID, p *path) (*tls.Conn, error) {
	cfg, keys := e.identity.ConfigForPeer(remote)
	cfg.NextProtos = []string{alpn}
	cfg.DynamicRecordSizingDisabled = true // frames are as long as records
	verify := cfg.VerifyPeerCertificate
	var identity error
	cfg.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error {
		identity = verify(raw, nil)
		return identity
	}
	t := tls.Server(rc, cfg)
	if dialer {
		t = tls.Client(rc, cfg)
	}
	if err := t.HandshakeContext(ctx); err != nil {
		if identity != nil {
			e.metrics.identity.Inc()
			return nil, fmt.Errorf("%w: %w", ErrIdentity, identity)
		}
		return nil, err
	}
	state := t.ConnectionState()
	if state.NegotiatedProtocol != alpn {
		return nil, errors.New("not a link")
	}
	var key ic.PubKey
	select {
	case key = <-keys:
	default:
	}
	if key == nil {
		return nil, ErrIdentity
	}
	var err error
	if p.remote, err = peer.IDFromPublicKey(key); err != nil {
		return nil, err
	}
	return t, p.bind(state)
}

// bind takes from the handshake what only its two ends know.
func (p *path) bind(state tls.ConnectionState) error {
	binding, err := state.ExportKeyingMaterial(labelPath, nil, exporterLen)
	if err != nil {
		return err
	}
	origin, err := state.ExportKeyingMaterial(labelSession, nil, exporterLen)
	if err != nil {
		return err
	}
	p.binding, p.origin = [exporterLen]byte(binding), secret(origin)
	return nil
}

// readHeader reads the beginning of a frame.
func (p *path) readHeader() (wire.Header, error) {
	var b [wire.HeaderLen]byte
	if err := p.readFull(b[:]); err != nil {
		return wire.Header{}, err
	}
	h, err := wire.ParseHeader(b)
	if err != nil {
		return h, fmt.Errorf("%w: %w", errPeer, err)
	}
	return h, nil
}

// readFull is [io.ReadFull] without its escape of b to the heap.
func (p *path) readFull(b []byte) error {
	for len(b) > 0 {
		n, err := p.r.Read(b)
		if b = b[n:]; err != nil && len(b) > 0 {
			return err
		}
	}
	return nil
}

// readHello reads the frame that every path begins with. It returns ErrRefused
// if the peer closes instead.
func (p *path) readHello() (wire.Hello, error) {
	h, err := p.readHeader()
	if err != nil {
		return wire.Hello{}, err
	}
	if h.Type != wire.HELLO && h.Type != wire.CLOSE {
		return wire.Hello{}, fmt.Errorf("%w: %v before HELLO", errPeer, h.Type)
	}
	b := make([]byte, h.Len) // at most MaxHello
	if err := p.readFull(b); err != nil {
		return wire.Hello{}, err
	}
	if h.Type == wire.CLOSE {
		return wire.Hello{}, cmp.Or(closeError(b), ErrPeerClosed)
	}
	hello, err := wire.ParseHello(b)
	if err != nil {
		return hello, fmt.Errorf("%w: %w", errPeer, err)
	}
	return hello, nil
}

// closeError is the error that a CLOSE means, nil if the link is done.
func closeError(payload []byte) error {
	c, err := wire.ParseClose(payload)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errPeer, err)
	case c.Code == wire.CodeRefused:
		return fmt.Errorf("%w: %q", ErrRefused, c.Reason)
	case c.Code == wire.CodeDone:
		return nil
	default:
		return fmt.Errorf("link: the peer broke off: %q", c.Reason)
	}
}

// write writes control frames, and data frames, as records that hold whole
// frames.
func (p *path) write(ctl, data []byte) error {
	p.carrier.hold()
	var err error
	if len(ctl) > 0 {
		_, err = p.stream.Write(ctl)
	}
	for err == nil && len(data) > 0 {
		n := record(data)
		_, err = p.stream.Write(data[:n])
		data = data[n:]
	}
	return errors.Join(err, p.carrier.flush())
}

// close ends a path without a word: TLS would want to say goodbye, and wait
// for a peer that may be gone. What matters is said in frames.
func (p *path) close() { p.carrier.Close() } //nolint:errcheck // nothing is lost with a path

// refuse tells the peer of a path without a link why it is not wanted, and
// closes.
func (p *path) refuse(why error) {
	p.done = make(chan struct{})
	go p.drain()
	p.farewell(wire.Close{Code: wire.CodeRefused, Reason: why.Error()})
}

// farewellTime bounds how long a path is kept for its last frame to arrive.
const farewellTime = time.Second

// farewell sends a last frame and waits until the peer has closed: to close
// with something unread would reset the connection, and the frame with it.
// Somebody else drains the path.
func (p *path) farewell(c wire.Close) {
	defer p.close()
	if p.stream.SetDeadline(time.Now().Add(farewellTime)) != nil || p.write(c.AppendTo(nil), nil) != nil || p.stream.CloseWrite() != nil {
		return
	}
	<-p.done
}

// drain reads and forgets what still comes, and says when that is over.
func (p *path) drain() {
	defer close(p.done)
	io.Copy(io.Discard, p.r) //nolint:errcheck // ends with any error
}
