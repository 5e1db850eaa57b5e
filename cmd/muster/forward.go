package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

const forwardLong = `Listen on a local TCP address, and connect whoever comes to a service of a peer that
runs 'muster up --expose SERVICE=…'. Each connection gets a link of its own. The first
line on stdout is the address.

A name is looked up once: later connections go to the same peer, whatever the name means
by then.`

// forwardFlags are the flags of 'muster forward'.
type forwardFlags struct {
	pointFlags
	timeout time.Duration
}

func newForwardCmd(e *env) *cobra.Command {
	var f forwardFlags
	cmd := &cobra.Command{
		Use:     "forward WHO:SERVICE [LADDR]",
		Short:   "Make a peer's service a local port",
		Long:    forwardLong,
		Example: "  muster forward lab/nas:ssh 127.0.0.1:2222\n  ssh -p 2222 127.0.0.1",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 || len(args) == 2 {
				return nil
			}
			return usageError(fmt.Errorf("%s takes WHO:SERVICE and at most one LADDR, got %d arguments", cmd.CommandPath(), len(args)),
				"see '"+cmd.CommandPath()+" --help'")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			laddr := "127.0.0.1:0"
			if len(args) == 2 {
				laddr = args[1]
			}
			return f.run(cmd.Context(), e, args[0], laddr)
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&f.timeout, "timeout", callTimeout, "give up on a connection if there is no link after `DUR`")
	return cmd
}

func (f *forwardFlags) run(ctx context.Context, e *env, whom, laddr string) (err error) {
	w, service, err := parseWhoService(whom)
	if err != nil {
		return err
	}
	if service == "" {
		return usageError(fmt.Errorf("%q names no service", whom), "write WHO:SERVICE, as in lab/nas:ssh")
	}
	if w.ticket != nil {
		return usageError(errors.New("a ticket is for one call"), "forward to a name or a peer ID through the point")
	}
	o, err := f.options()
	if err == nil {
		err = o.fits(w)
	}
	if err != nil {
		return err
	}
	c, err := openCaller(o, false, nil)
	if err != nil {
		return err
	}
	defer closing(c, &err)
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", laddr)
	if err != nil {
		return fail(exitLocal, err, "is the port in use?")
	}
	fw := &forwarder{f: f, c: c, w: w, service: service, ev: newEvents(e.stderr, f.json)}
	// The name is looked up now, so that a mistake shows now.
	first, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if _, err := fw.pin.pin(first, c, w); err != nil {
		return errors.Join(err, l.Close())
	}
	if _, err := fmt.Fprintln(e.stdout, l.Addr()); err != nil {
		return errors.Join(err, l.Close())
	}
	return fw.serve(ctx, l)
}

// A forwarder makes links for local connections.
type forwarder struct {
	f       *forwardFlags
	c       *caller
	w       who
	service string
	pin     pinned
	ev      events
}

// serve accepts until ctx ends, which is how it is meant to end.
func (fw *forwarder) serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, maxServed)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		local, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fail(exitLocal, err, "")
		}
		wg.Go(func() {
			defer func() { <-places }()
			fw.forward(ctx, local.(*net.TCPConn))
		})
	}
}

// forward is one connection.
func (fw *forwarder) forward(ctx context.Context, local *net.TCPConn) {
	start := time.Now()
	dial, cancel := context.WithTimeout(ctx, fw.f.timeout)
	defer cancel()
	w, err := fw.pin.pin(dial, fw.c, fw.w)
	if err == nil {
		conn, dialErr := fw.c.dial(dial, w, fw.service)
		if dialErr == nil {
			report := reportLink(fw.ev, start, conn, "")
			sent, received, err := splice(ctx, conn, local)
			report.closed("", sent, received, err)
			return
		}
		err = dialErr
	}
	_ = local.SetLinger(0) // a reset: nobody was there
	_ = local.Close()
	fw.ev.say("no link: "+err.Error(), map[string]any{"event": "failed", "error": err.Error()})
}
