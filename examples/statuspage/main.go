// Command statuspage shows the status page of a daemon that is made up: its
// numbers wander. It is how a program of your own gets the page, and what the
// browser tests look at where there is no point.
//
//	go run ./examples/statuspage -listen 127.0.0.1:7837
//
// It prints the page's address. Each line on its standard input is a command:
// quiet and busy change the load, freeze and thaw hold the numbers, break and
// mend the store.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/muster-p2p/muster/admin"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where the page is")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *listen, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen string, stdin io.Reader, stdout io.Writer) error {
	d := newDaemon(time.Now())
	reg := admin.NewRegistry("made-up")
	srv, err := admin.New(admin.Config{
		Listen:     listen,
		Version:    "v0.0.0-made-up",
		Gatherer:   reg,
		Registerer: reg,
		Snapshot:   d.snapshot,
		Checks:     map[string]func(context.Context) error{"store": d.check},
	})
	if err != nil {
		return err
	}
	if err := srv.Start(ctx); err != nil {
		return err
	}
	defer srv.Close() //nolint:errcheck // the process ends
	fmt.Fprintln(stdout, srv.URL())
	go func() {
		for sc := bufio.NewScanner(stdin); sc.Scan(); {
			d.command(sc.Text())
		}
	}()
	<-ctx.Done()
	return nil
}
