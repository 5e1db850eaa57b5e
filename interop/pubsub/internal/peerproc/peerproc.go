// Package peerproc turns a pubsub implementation into a process that is
// driven by lines on stdin and answers each with one JSON object on stdout.
// The Rust, JavaScript and Python peers speak the same lines.
//
//	out {"event":"listen","addr":MULTIADDR,"peer":ID}            once, first
//	in  connect MULTIADDR                → {"event":"ok"}
//	in  subscribe TOPIC                  → {"event":"ok"}
//	in  unsubscribe TOPIC                → {"event":"ok"}
//	in  publish TOPIC TAG COUNT SIZE     → {"event":"published","count":N,"error":TEXT}
//	in  received TOPIC TAG               → {"event":"received","count":DISTINCT,"duplicates":N,"corrupt":N}
//	in  state TOPIC                      → {"event":"state","mesh":[ID],"subscribers":[ID],"connected":[ID],
//	                                        "counts":{ID:{"in":SUMMARY,"out":SUMMARY}},"rejected":{REASON:N},"dropped":N}
//	in  quit
//
// Anything that goes wrong is {"event":"error","error":TEXT}. COUNT messages
// of SIZE bytes are published as "TAG-I " and x to the end, for I from 0, as
// fast as the implementation takes them; one that is refused is tried again.
// Flags: --router gossipsub|floodsub, --sign strict|none|lax, --px, --degree N.
package peerproc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/muster-p2p/muster/interop/internal/lines"
)

// opTimeout bounds one command.
const opTimeout = 60 * time.Second

// Options are the flags of every peer.
type Options struct {
	Router string // gossipsub or floodsub
	Sign   string // strict, none or lax
	PX     bool   // peer exchange in PRUNE
	Degree int    // D = Dlo = Dhi, if not zero
}

// Flags registers the options with package flag.
func Flags() *Options {
	o := new(Options)
	flag.StringVar(&o.Router, "router", "gossipsub", "gossipsub or floodsub")
	flag.StringVar(&o.Sign, "sign", "strict", "strict, none, or lax where there is such a policy")
	flag.BoolVar(&o.PX, "px", false, "peer exchange")
	flag.IntVar(&o.Degree, "degree", 0, "mesh degree: D, Dlo and Dhi")
	return o
}

// ContentID is the message id that all peers agree on under StrictNoSign.
func ContentID(data []byte) string {
	sum := sha256.Sum256(data)
	return string(sum[:])
}

// Node is what an implementation must be able to do.
type Node interface {
	Connect(ctx context.Context, addr string) error
	Subscribe(topic string) error
	Unsubscribe(topic string) error
	Publish(ctx context.Context, topic string, data []byte) error
	State(topic string) State
	Counts() *Counts
}

// State is the view of one topic.
type State struct {
	Mesh        []string
	Subscribers []string
	Connected   []string
}

// Answer is what a peer answers.
type Answer struct {
	lines.Answer
	Count       int                 `json:"count"`
	Duplicates  int                 `json:"duplicates"`
	Corrupt     int                 `json:"corrupt"`
	Mesh        []string            `json:"mesh,omitempty"`
	Subscribers []string            `json:"subscribers,omitempty"`
	Connected   []string            `json:"connected,omitempty"`
	Counts      map[string]*Traffic `json:"counts,omitempty"`
	Rejected    map[string]int      `json:"rejected,omitempty"`
	Dropped     int                 `json:"dropped"`
}

func about(event string) Answer { return Answer{Answer: lines.Answer{Event: event}} }

// Run announces addr and then obeys the lines of stdin until quit or EOF.
func Run(addr, peer string, n Node) error {
	return lines.Serve(os.Stdin, os.Stdout, addr, peer, func(words []string) (any, error) { return obey(n, words) })
}

func obey(n Node, words []string) (Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	ok := about("ok")
	switch {
	case words[0] == "connect" && len(words) == 2:
		return ok, n.Connect(ctx, words[1])
	case words[0] == "subscribe" && len(words) == 2:
		return ok, n.Subscribe(words[1])
	case words[0] == "unsubscribe" && len(words) == 2:
		return ok, n.Unsubscribe(words[1])
	case words[0] == "publish" && len(words) == 5:
		return publish(ctx, n, words)
	case words[0] == "received" && len(words) == 3:
		return n.Counts().received(words[1], words[2]), nil
	case words[0] == "state" && len(words) == 2:
		s := n.State(words[1])
		ev := about("state")
		ev.Mesh, ev.Subscribers, ev.Connected = s.Mesh, s.Subscribers, s.Connected
		n.Counts().fill(&ev)
		return ev, nil
	}
	return Answer{}, fmt.Errorf("unknown command %q", strings.Join(words, " "))
}

func publish(ctx context.Context, n Node, words []string) (Answer, error) {
	count, err := strconv.Atoi(words[3])
	if err != nil {
		return Answer{}, err
	}
	size, err := strconv.Atoi(words[4])
	if err != nil {
		return Answer{}, err
	}
	published := about("published")
	for i := range count {
		data := Payload(words[2], i, size)
		for {
			err := n.Publish(ctx, words[1], data)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				published.Count, published.Error = i, err.Error()
				return published, nil
			}
			time.Sleep(time.Millisecond)
		}
		// Implementations that drop what their queues cannot hold are given
		// the chance to drain them.
		if i%16 == 15 {
			time.Sleep(2 * time.Millisecond)
		}
	}
	published.Count = count
	return published, nil
}

// Payload is message i of tag.
func Payload(tag string, i, size int) []byte {
	head := fmt.Appendf(nil, "%s-%d ", tag, i)
	return append(head, bytes.Repeat([]byte{'x'}, max(0, size-len(head)))...)
}
