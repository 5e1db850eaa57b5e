// Command musterpeer is a muster discv5 node behind the line protocol that
// interop/discv5/README.md describes. It is a module of its own so that the
// go-ethereum in the module above takes no part in building it.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/muster-p2p/muster/discv5"
	"github.com/muster-p2p/muster/enr"
)

// commandTime bounds a command; a lookup may take several requests.
const commandTime = 15 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "musterpeer:", err)
		os.Exit(1)
	}
}

type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func run() error {
	var boot list
	addr := flag.String("addr", "127.0.0.1:0", "UDP address to bind and announce")
	keyHex := flag.String("key", "", "private key, 64 hex digits; empty makes one")
	verbose := flag.Bool("v", false, "log everything to stderr")
	flag.Var(&boot, "bootnode", "ENR of a node to join; may be repeated")
	flag.Parse()
	cfg := discv5.Config{}
	if *verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ap, err := netip.ParseAddrPort(*addr)
	if err != nil {
		return err
	}
	cfg.Listen = []netip.AddrPort{ap}
	if cfg.Key, err = parseKey(*keyHex); err != nil {
		return err
	}
	for _, text := range boot {
		r, err := enr.ParseText(text)
		if err != nil {
			return err
		}
		cfg.Bootnodes = append(cfg.Bootnodes, r)
	}
	n, err := discv5.Listen(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = n.Close() }()
	err = n.RegisterTalkProtocol("echo", func(_ context.Context, r discv5.TalkRequest) []byte { return r.Payload })
	if err != nil {
		return err
	}
	fmt.Println(n.LocalRecord())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		ctx, cancel := context.WithTimeout(context.Background(), commandTime)
		answer, err := command(ctx, n, strings.Fields(in.Text()))
		cancel()
		if err != nil {
			answer = "err " + strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Println(answer)
	}
	return nil
}

func parseKey(s string) (*enr.PrivateKey, error) {
	if s == "" {
		return enr.GenerateKey()
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, err
	}
	return enr.NewPrivateKey(b)
}

func command(ctx context.Context, n *discv5.Node, f []string) (string, error) {
	if len(f) == 0 {
		return "", errors.New("empty command")
	}
	args := f[1:]
	switch {
	case f[0] == "enr" && len(args) == 0:
		return "ok " + n.LocalRecord().String(), nil
	case f[0] == "lookup" && len(args) == 1:
		return lookup(ctx, n, args[0])
	case f[0] == "knows" && len(args) == 1:
		return knows(n, args[0])
	case f[0] == "set" && len(args) == 2:
		return set(n, args[0], args[1])
	case len(args) == 0:
		return "", fmt.Errorf("unknown command %q", f[0])
	}
	r, err := enr.ParseText(args[0])
	if err != nil {
		return "", err
	}
	switch {
	case f[0] == "ping" && len(args) == 1:
		pong, err := n.Ping(ctx, r)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("ok %d %v %d", pong.Seq, pong.Endpoint.Addr(), pong.Endpoint.Port()), nil
	case f[0] == "findnode" && len(args) == 2:
		return findnode(ctx, n, r, args[1])
	case f[0] == "talk" && len(args) >= 2:
		return talk(ctx, n, r, args[1], strings.Join(args[2:], ""))
	case f[0] == "request" && len(args) == 1:
		found, err := n.FindNode(ctx, r, 0)
		if err != nil {
			return "", err
		}
		if len(found) != 1 {
			return "", fmt.Errorf("%d records for distance 0", len(found))
		}
		return "ok " + found[0].String(), nil
	default:
		return "", fmt.Errorf("unknown command %q", strings.Join(f, " "))
	}
}

func findnode(ctx context.Context, n *discv5.Node, r *enr.Record, distances string) (string, error) {
	var ds []int
	for _, s := range strings.Split(distances, ",") {
		d, err := strconv.Atoi(s)
		if err != nil {
			return "", err
		}
		ds = append(ds, d)
	}
	found, err := n.FindNode(ctx, r, ds...)
	if err != nil {
		return "", err
	}
	return ids(found), nil
}

func talk(ctx context.Context, n *discv5.Node, r *enr.Record, protocol, payload string) (string, error) {
	req, err := hex.DecodeString(payload)
	if err != nil {
		return "", err
	}
	answer, err := n.TalkRequest(ctx, r, protocol, req)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("ok %x", answer), nil
}

func lookup(ctx context.Context, n *discv5.Node, text string) (string, error) {
	id, err := enr.ParseID(text)
	if err != nil {
		return "", err
	}
	found, err := n.Lookup(ctx, id)
	if err != nil {
		return "", err
	}
	return ids(found), nil
}

// knows tells the number of the record that the table holds.
func knows(n *discv5.Node, text string) (string, error) {
	id, err := enr.ParseID(text)
	if err != nil {
		return "", err
	}
	for _, r := range n.Neighbours(id, 1, false) {
		if r.ID() == id {
			return fmt.Sprintf("ok %d", r.Seq()), nil
		}
	}
	return "", errors.New("not known")
}

// set puts a pair into the own record; the value is a string of bytes.
func set(n *discv5.Node, key, value string) (string, error) {
	b, err := hex.DecodeString(value)
	if err != nil {
		return "", err
	}
	r, err := n.UpdateRecord(func(c *enr.Content) { c.Set(key, b) })
	if err != nil {
		return "", err
	}
	return "ok " + r.String(), nil
}

func ids(found []*enr.Record) string {
	words := []string{"ok", strconv.Itoa(len(found))}
	for _, r := range found {
		words = append(words, r.ID().String())
	}
	return strings.Join(words, " ")
}
