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
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
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

type event struct {
	Event  string   `json:"event"`
	Addr   string   `json:"addr,omitempty"`
	Peer   string   `json:"peer,omitempty"`
	TTL    int64    `json:"ttl"`
	Cookie string   `json:"cookie"`
	Peers  []Record `json:"peers,omitempty"`
	Error  string   `json:"error,omitempty"`
}

// Run announces addr and then obeys the lines of stdin until quit or EOF.
func Run(addr, peer string, c Client) error {
	return run(os.Stdin, os.Stdout, addr, peer, c)
}

func run(in io.Reader, out io.Writer, addr, peer string, c Client) error {
	enc := json.NewEncoder(out)
	if err := enc.Encode(event{Event: "listen", Addr: addr, Peer: peer}); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		if words[0] == "quit" {
			return nil
		}
		ev, err := obey(c, words)
		if err != nil {
			ev = event{Event: "error", Error: err.Error()}
		}
		if err := enc.Encode(ev); err != nil {
			return err
		}
	}
	return lines.Err()
}

func obey(c Client, words []string) (event, error) {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	switch {
	case words[0] == "register" && len(words) == 4:
		ttl, err := strconv.Atoi(words[3])
		if err != nil {
			return event{}, err
		}
		granted, err := c.Register(ctx, words[1], words[2], ttl)
		return event{Event: "registered", TTL: granted}, err
	case words[0] == "discover" && len(words) == 5:
		return discover(ctx, c, words)
	case words[0] == "unregister" && len(words) == 3:
		return event{Event: "unregistered"}, c.Unregister(ctx, words[1], words[2])
	}
	return event{}, fmt.Errorf("unknown command %q", strings.Join(words, " "))
}

func discover(ctx context.Context, c Client, words []string) (event, error) {
	ns := words[2]
	if ns == "-" {
		ns = ""
	}
	limit, err := strconv.Atoi(words[3])
	if err != nil {
		return event{}, err
	}
	var cookie []byte
	if words[4] != "-" {
		if cookie, err = hex.DecodeString(words[4]); err != nil {
			return event{}, err
		}
	}
	peers, next, err := c.Discover(ctx, words[1], ns, limit, cookie)
	return event{Event: "discovered", Cookie: hex.EncodeToString(next), Peers: peers}, err
}
