package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/link"
)

// pingService is the service of 'muster ping'. It echoes what it is sent, in
// pieces of pingSize bytes.
const (
	pingService = "_ping"
	pingSize    = 16
)

// Bounds of the service: it costs the point's relay something as long as the path
// goes there.
const (
	pingLinks    = 16
	pingRate     = 50 * time.Millisecond // between two echoes
	pingIdle     = time.Minute
	pingLifetime = time.Hour
)

// servePing answers pings until ctx ends.
func (c *caller) servePing(ctx context.Context, allow []peer.ID) error {
	l, err := c.Listen(pingService, allow)
	if err != nil {
		return err
	}
	places := make(chan struct{}, pingLinks)
	go serveLinks(ctx, l, func(conn *link.Conn) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, pingLifetime)
			defer cancel()
			echo(ctx, conn)
		default:
			conn.Abort("busy")
		}
	})
	return nil
}

// echo sends back what comes until the caller ends.
func echo(ctx context.Context, conn *link.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close() //nolint:errcheck // nothing of it is owed
	var b [pingSize]byte
	pace := time.NewTicker(pingRate)
	defer pace.Stop()
	for {
		_ = conn.SetDeadline(time.Now().Add(pingIdle))
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return
		}
		if _, err := conn.Write(b[:]); err != nil {
			return
		}
		<-pace.C
	}
}

const pingLong = `Connect to a peer that runs 'muster up' or 'muster listen', and print once a second by
which path an echo came back and how long it took; and the moment that the path
changes.`

// pingFlags are the flags of 'muster ping'.
type pingFlags struct {
	pointFlags
	count    int
	interval time.Duration
	timeout  time.Duration
}

func newPingCmd(e *env) *cobra.Command {
	var f pingFlags
	cmd := &cobra.Command{
		Use:   "ping WHO",
		Short: "Print the path and the round trip to a peer, as they change",
		Long:  pingLong,
		Args:  exactArgs("WHO"),
		RunE:  func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), e, args[0]) },
	}
	f.add(cmd)
	cmd.Flags().IntVarP(&f.count, "count", "c", 0, "stop after `N` echoes (default: go on until interrupted)")
	cmd.Flags().DurationVar(&f.interval, "interval", time.Second, "wait `DUR` between two echoes")
	cmd.Flags().DurationVar(&f.timeout, "timeout", callTimeout, "give up if there is no connection, or no echo, after `DUR`")
	return cmd
}

func (f *pingFlags) run(ctx context.Context, e *env, whom string) (err error) {
	start := time.Now()
	if f.count < 0 || f.interval < pingRate {
		return usageError(fmt.Errorf("--count cannot be negative, --interval not below %s", pingRate), "")
	}
	w, o, err := f.whoOptions(whom)
	if err != nil {
		return err
	}
	if w.ticket != nil {
		return usageError(errors.New("a ticket is for one call"), "ping a name or a peer ID through the point")
	}
	c, err := openCaller(o, false, nil)
	if err != nil {
		return err
	}
	defer closing(c, &err)
	dial, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	conn, err := c.dial(dial, w, pingService)
	if err != nil {
		return err
	}
	p := &pinger{f: f, e: e, conn: conn, start: start}
	return p.run(ctx)
}

// A pinger prints what it finds on stdout, one fact a line.
type pinger struct {
	f     *pingFlags
	e     *env
	conn  *link.Conn
	start time.Time
	at    link.PathInfo
}

func (p *pinger) run(ctx context.Context) error {
	defer p.conn.Close() //nolint:errcheck // nothing of it is owed
	stop := context.AfterFunc(ctx, func() { _ = p.conn.Close() })
	defer stop()
	p.at = p.conn.Path()
	if err := p.print(p.pathLine(time.Since(p.start)), p.pathObject(time.Since(p.start))); err != nil {
		return err
	}
	for seq := 1; p.f.count == 0 || seq <= p.f.count; seq++ {
		rtt, err := p.echo(uint64(seq))
		if ctx.Err() != nil {
			return nil // interrupted: what was asked for is done
		}
		if err != nil {
			return pingFailure(err)
		}
		at := p.conn.Path()
		if err := p.print(fmt.Sprintf("seq=%d path=%s addr=%s rtt=%s", seq, at.Kind, at.Addr, rtt.Round(10*time.Microsecond)),
			map[string]any{"event": "echo", "seq": seq, "path": at.Kind.String(), "addr": at.Addr.String(), "ms": millis(rtt)}); err != nil {
			return err
		}
		if seq != p.f.count && !p.pause(ctx) {
			return nil
		}
	}
	return nil
}

func pingFailure(err error) error {
	if errors.Is(err, link.ErrRefused) {
		return linkFailure(err)
	}
	return fail(exitTimeout, fmt.Errorf("no echo: %w", err), "")
}

// echo measures one round trip.
func (p *pinger) echo(seq uint64) (time.Duration, error) {
	var out, in [pingSize]byte
	binary.BigEndian.PutUint64(out[:], seq)
	start := time.Now()
	_ = p.conn.SetDeadline(start.Add(p.f.timeout))
	if _, err := p.conn.Write(out[:]); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(p.conn, in[:]); err != nil {
		return 0, err
	}
	if in != out {
		return 0, errors.New("the echo is not what was sent")
	}
	return time.Since(start), nil
}

// pause waits for the next echo's time and prints what changes meanwhile.
func (p *pinger) pause(ctx context.Context) bool {
	timer := time.NewTimer(p.f.interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case e, ok := <-p.conn.Events():
			if !ok {
				return true // the next echo says why
			}
			if e.Kind != link.Switched || e.Path.Kind == p.at.Kind && e.Path.Addr == p.at.Addr {
				continue
			}
			p.at = e.Path
			after := e.At.Sub(p.start)
			if err := p.print(p.pathLine(after), p.pathObject(after)); err != nil {
				return false
			}
		}
	}
}

func (p *pinger) pathLine(after time.Duration) string {
	return fmt.Sprintf("path: %s %s after %s", p.at.Kind, p.at.Addr, after.Round(time.Millisecond))
}

func (p *pinger) pathObject(after time.Duration) map[string]any {
	return map[string]any{
		"event": "path", "peer": p.conn.RemotePeer().String(), "path": p.at.Kind.String(), "addr": p.at.Addr.String(), "ms": millis(after),
	}
}

func (p *pinger) print(line string, object map[string]any) error {
	if p.f.json {
		return json.NewEncoder(p.e.stdout).Encode(object)
	}
	_, err := fmt.Fprintln(p.e.stdout, line)
	return err
}
