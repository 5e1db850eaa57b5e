// Package peerproc turns a foreign rendezvous implementation into a process
// that is driven by lines on stdin and answers with JSON objects on stdout.
// The Rust, JavaScript and Python peers speak the same lines.
//
//	out {"event":"listen","addr":MULTIADDR,"peer":ID}         once, first
//	in  register POINT NS TTL                                 TTL 0: leave it out
//	out {"event":"registered","ttl":SECONDS}
//	in  discover POINT NS LIMIT COOKIE                        NS -: all; LIMIT 0: leave it out; COOKIE hex or -
//	out {"event":"discovered","cookie":HEX,"peers":[{"peer":ID,"ns":NS,"ttl":SECONDS,"addrs":[MULTIADDR]}]}
//	in  unregister POINT NS
//	out {"event":"unregistered"}
//	in  quit
//
// Anything that goes wrong is {"event":"error","error":TEXT}.
package peerproc

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/muster-p2p/muster/interop/internal/lines"
)

// opTimeout bounds one operation: long enough for a machine under load, short
// enough for a test to report which operation hung.
const opTimeout = 30 * time.Second

// Record is one registration as the implementation under test reports it.
type Record struct {
	Peer  string   `json:"peer"`
	NS    string   `json:"ns"`
	TTL   int64    `json:"ttl"`
	Addrs []string `json:"addrs"`
}

// Client is what a foreign implementation must be able to do. Point is a
// multiaddr that ends in /p2p/ID.
type Client interface {
	Register(ctx context.Context, point, ns string, ttl int) (granted int64, err error)
	Discover(ctx context.Context, point, ns string, limit int, cookie []byte) ([]Record, []byte, error)
	Unregister(ctx context.Context, point, ns string) error
}

// Answer is what a peer answers.
type Answer struct {
	lines.Answer
	TTL    int64    `json:"ttl"`
	Cookie string   `json:"cookie"`
	Peers  []Record `json:"peers,omitempty"`
}

// Run announces addr and then obeys the lines of stdin until quit or EOF.
func Run(addr, peer string, c Client) error {
	return lines.Serve(os.Stdin, os.Stdout, addr, peer, func(words []string) (any, error) { return obey(c, words) })
}

func about(event string) lines.Answer { return lines.Answer{Event: event} }

func obey(c Client, words []string) (Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	switch {
	case words[0] == "register" && len(words) == 4:
		ttl, err := strconv.Atoi(words[3])
		if err != nil {
			return Answer{}, err
		}
		granted, err := c.Register(ctx, words[1], words[2], ttl)
		return Answer{Answer: about("registered"), TTL: granted}, err
	case words[0] == "discover" && len(words) == 5:
		return discover(ctx, c, words)
	case words[0] == "unregister" && len(words) == 3:
		return Answer{Answer: about("unregistered")}, c.Unregister(ctx, words[1], words[2])
	}
	return Answer{}, fmt.Errorf("unknown command %q", strings.Join(words, " "))
}

func discover(ctx context.Context, c Client, words []string) (Answer, error) {
	ns := words[2]
	if ns == "-" {
		ns = ""
	}
	limit, err := strconv.Atoi(words[3])
	if err != nil {
		return Answer{}, err
	}
	var cookie []byte
	if words[4] != "-" {
		if cookie, err = hex.DecodeString(words[4]); err != nil {
			return Answer{}, err
		}
	}
	peers, next, err := c.Discover(ctx, words[1], ns, limit, cookie)
	return Answer{Answer: about("discovered"), Cookie: hex.EncodeToString(next), Peers: peers}, err
}
