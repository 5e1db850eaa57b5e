// Command peer-pion is a pipe between two peers by pion/webrtc as it ships: a data
// channel, candidates sent as they are found, STUN and TURN by pion/turn.
//
//	peer-pion serve [:8080]          signalling on TCP; STUN and TURN on UDP and TCP 3478
//	peer-pion accept URL TOKEN       wait for an offer and answer it
//	peer-pion dial URL TOKEN         make the offer
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
)

const (
	turnPort = "3478"
	user     = "lab"
	secret   = "lab"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, args[1])
	case len(args) == 3 && (args[0] == "accept" || args[0] == "dial"):
		return connect(ctx, args[0], args[1], args[2])
	}
	return errors.New("usage: peer-pion serve [:PORT] | accept URL TOKEN | dial URL TOKEN")
}
