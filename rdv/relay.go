package rdv

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/muster-p2p/muster/rdv/wire"
)

// Bounds of a relayed pair, unless the [Relayer] says otherwise.
const (
	// DefaultCommandTimeout is how long a dialer may take to pick a
	// connection once it has its peer's addresses. v0.0.6 picks within 1 s, and
	// recommends at most 3; the rest is for slow networks.
	DefaultCommandTimeout = 10 * time.Second

	// DefaultWriteTimeout is how long a peer may take nothing while there is
	// data for it. Somebody who reads the output in a pager needs seconds, a
	// peer that is gone or means harm takes for ever.
	DefaultWriteTimeout = 30 * time.Second
)

// Relayer handles a pair of clients by relaying data between them. The zero
// value can be used, also by several goroutines at once; it must not be copied
// after first use.
//
// Data that comes from and goes to plain TCP connections stays in the kernel
// on Linux.
type Relayer struct {
	// IdleTimeout is how long a pair may be silent in both directions. If
	// zero, for ever.
	IdleTimeout time.Duration

	// BufferSize is the size in bytes of the buffers that data is copied
	// with, where it has to leave the kernel. If zero, 32 KiB.
	BufferSize int

	// CommandTimeout is how long the dialer may take to say which connection
	// it picked. If zero, [DefaultCommandTimeout]; if negative, for ever.
	CommandTimeout time.Duration

	// WriteTimeout is how long data may wait for a peer that takes none of
	// it. If zero, [DefaultWriteTimeout]; if negative, for ever.
	WriteTimeout time.Duration

	// PairRate, SourceRate and TotalRate bound the bytes per second that are
	// relayed, both directions together, for one pair, for all pairs of one
	// source (an IPv4 address, or an IPv6 /64), and in all. If zero, there is
	// no limit. They are read once for a pair, when its relaying starts.
	PairRate, SourceRate, TotalRate int64

	// Logger, if not nil, gets a line for each pair. Tokens are shortened.
	Logger *slog.Logger

	stats   relayStats
	shares  shares
	buffers sync.Pool // of *[]byte
}

// Continue sends both clients the response that introduces them, and waits for
// the dialer to pick a connection. If it picked the relay, Continue passes
// that on to the acceptor and returns nil: call [Relayer.Relay]. It returns
// [ErrOther] if the peers have a connection of their own, [ErrProtocol] if the
// dialer said something else, an error that is [os.ErrDeadlineExceeded] if it
// said nothing in time, and the cause of ctx if that ended. It never closes dc
// and ac.
func (r *Relayer) Continue(ctx context.Context, dc, ac *Conn) error {
	err := r.introduce(ctx, dc, ac)
	switch {
	case err == nil:
		r.stats.relayed.Add(1)
	case errors.As(err, new(ErrOther)):
		r.stats.direct.Add(1)
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.stats.silent.Add(1)
	default:
		r.stats.failed.Add(1)
	}
	return err
}

func (r *Relayer) introduce(ctx context.Context, dc, ac *Conn) error {
	now := time.Now()
	if d := withDefault(r.CommandTimeout, DefaultCommandTimeout); d > 0 {
		if err := errors.Join(dc.SetDeadline(now.Add(d)), ac.SetWriteDeadline(now.Add(d))); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() {
		_, _ = dc.SetDeadline(now), ac.SetWriteDeadline(now)
	})
	defer stop()
	err := errors.Join(writeResponses(dc, ac))
	var cmd wire.Command
	if err == nil {
		cmd, err = readCommand(dc)
	}
	if err == nil && cmd.Other.IsValid() {
		return ErrOther{Addr: cmd.Other}
	}
	if err == nil {
		_, err = ac.Write(wire.Command{}.AppendTo(nil))
	}
	if !stop() {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return errors.Join(dc.SetDeadline(time.Time{}), ac.SetWriteDeadline(time.Time{}))
}

// writeResponses sends each client its 101, in one write.
func writeResponses(dc, ac *Conn) error {
	dExt, aExt := wire.ParseExt(extField(dc)), wire.ParseExt(extField(ac))
	var dPeer, aPeer string
	if dExt.Proof && aExt.Proof {
		nonce := make([]byte, wire.NonceLen)
		rand.Read(nonce) // never fails, by its contract
		aExt.Nonce, dExt.Nonce = nonce, nonce
		dPeer = aExt.String()
		aPeer = dExt.String()
	}
	if err := writeResponse(dc, dPeer); err != nil {
		return fmt.Errorf("rdv: respond to dialer: %w", err)
	}
	if err := writeResponse(ac, aPeer); err != nil {
		return fmt.Errorf("rdv: respond to acceptor: %w", err)
	}
	return nil
}

func extField(c *Conn) string {
	if c.Request == nil {
		return ""
	}
	return c.Request.Header.Get(wire.FieldExt)
}

func writeResponse(c *Conn, peerExt string) error {
	resp := wire.Response{PeerAddrs: c.PeerAddrs, PeerExt: peerExt, Fields: c.fields}
	if c.ObservedAddr != nil {
		resp.Observed = *c.ObservedAddr
	}
	b, err := resp.AppendTo(make([]byte, 0, 512))
	if err != nil {
		return err
	}
	_, err = c.Write(b)
	return err
}

// readCommand reads the dialer's first line and not a byte more: what follows
// CONTINUE is the application's, and stays where the kernel can relay it from.
// It refuses a line as soon as it cannot become a command.
func readCommand(r io.Reader) (wire.Command, error) {
	var buf [maxCommand]byte
	n := 0
	for n < len(buf) {
		// Nothing follows OTHER, so that only CONTINUE has to be met exactly.
		m, err := r.Read(buf[n:max(n+1, len(continueLF))])
		n += m
		line := buf[:n]
		switch {
		case n > 0 && line[n-1] == '\n':
			cmd, err := wire.ParseCommand(line)
			if err != nil {
				return wire.Command{}, fmt.Errorf("%w: %w", ErrProtocol, err)
			}
			return cmd, nil
		case !bytes.HasPrefix([]byte(continueLF), line) && !bytes.HasPrefix([]byte(continueCRLF), line) &&
			!bytes.HasPrefix([]byte(otherWord), line[:min(n, len(otherWord))]):
			return wire.Command{}, ErrProtocol
		case err != nil:
			return wire.Command{}, fmt.Errorf("rdv: read command: %w", err)
		}
	}
	return wire.Command{}, ErrProtocol
}

const (
	continueLF   = "CONTINUE\n"
	continueCRLF = "CONTINUE\r\n"
	otherWord    = "OTHER "

	// maxCommand bounds a line: an OTHER with an IPv6 address has 54 bytes.
	maxCommand = 80
)

// Serve introduces two peers to each other and relays for them if need be,
// until they are done; then it closes both. It implements [Handler]. For
// anything else, such as accounting, call [Relayer.Continue] and
// [Relayer.Relay] from a Handler of your own.
func (r *Relayer) Serve(ctx context.Context, dc, ac *Conn) {
	defer func() { _, _ = dc.Close(), ac.Close() }()
	log := orDiscard(r.Logger)
	start := time.Now()
	if err := r.Continue(ctx, dc, ac); err != nil {
		log.Debug("pair needs no relay", "token", ShortToken(dc.Token), "err", err, "dur", time.Since(start))
		return
	}
	n1, n2, err := r.Relay(ctx, ac, dc, dc, ac)
	log.Info("pair relayed", "token", ShortToken(dc.Token), "dial_bytes", n1, "accept_bytes", n2, "err", err, "dur", time.Since(start))
}

// Reject answers both clients with an HTTP error and closes them. Use it in
// place of [Relayer.Continue], for a pair that is not to be introduced.
func (r *Relayer) Reject(dc, ac *Conn, statusCode int, reason string) error {
	r.stats.rejected.Add(1)
	return errors.Join(refuse(dc.Conn, statusCode, reason), refuse(ac.Conn, statusCode, reason))
}

// refuseTimeout bounds the write of an error response, which the kernel takes
// at once but for a connection that is broken.
const refuseTimeout = time.Second

// refuse answers a client that has no HTTP server any more, and closes it.
func refuse(c net.Conn, statusCode int, reason string) error {
	return errors.Join(refuseOpen(c, statusCode, reason), c.Close())
}

// refuseOpen is refuse without the end.
func refuseOpen(c net.Conn, statusCode int, reason string) error {
	b := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"Content-Length: %d\r\n", statusCode, http.StatusText(statusCode), len(reason)+1)
	if statusCode == http.StatusServiceUnavailable || statusCode == http.StatusTooManyRequests {
		b = append(b, "Retry-After: 5\r\n"...)
	}
	b = append(b, "\r\n"+reason+"\n"...)
	if err := c.SetWriteDeadline(time.Now().Add(refuseTimeout)); err != nil {
		return err
	}
	_, err := c.Write(b)
	return err
}

// withDefault returns d, def if d is zero, and zero for none if d is negative.
func withDefault[T int | int64 | time.Duration](d, def T) T {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	default:
		return d
	}
}

// sourceOf is the address that a client's use of the relay is counted by.
func sourceOf(c *Conn) netip.Addr {
	if c.Meta != nil && c.ObservedAddr != nil {
		return sourceKey(c.ObservedAddr.Addr())
	}
	if a := c.RemoteAddr(); a != nil {
		return sourceKey(AddrPortFrom(a).Addr())
	}
	return netip.Addr{}
}

func orDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

var _ Handler = (*Relayer)(nil)
