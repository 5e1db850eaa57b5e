// Command gethpeer is a go-ethereum discv5 node behind the line protocol that
// interop/discv5/README.md describes.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/log"
	"github.com/ethereum/go-ethereum/p2p/discover"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/enr"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gethpeer:", err)
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
	if *verbose {
		log.SetDefault(log.NewLogger(log.NewTerminalHandlerWithLevel(os.Stderr, log.LevelTrace, false)))
	}
	key, err := parseKey(*keyHex)
	if err != nil {
		return err
	}
	p, err := start(*addr, key, boot)
	if err != nil {
		return err
	}
	defer p.disc.Close()
	fmt.Println(p.disc.Self().String())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		answer, err := p.command(strings.Fields(in.Text()))
		if err != nil {
			answer = "err " + strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Println(answer)
	}
	return nil
}

func parseKey(s string) (*ecdsa.PrivateKey, error) {
	if s == "" {
		return crypto.GenerateKey()
	}
	return crypto.HexToECDSA(s)
}

type peer struct {
	disc  *discover.UDPv5
	local *enode.LocalNode
}

func start(addr string, key *ecdsa.PrivateKey, boot []string) (*peer, error) {
	cfg := discover.Config{PrivateKey: key}
	for _, text := range boot {
		n, err := enode.Parse(enode.ValidSchemes, text)
		if err != nil {
			return nil, err
		}
		cfg.Bootnodes = append(cfg.Bootnodes, n)
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(ap))
	if err != nil {
		return nil, err
	}
	db, err := enode.OpenDB("")
	if err != nil {
		return nil, err
	}
	local := enode.NewLocalNode(db, key)
	local.SetStaticIP(ap.Addr().AsSlice())
	local.SetFallbackUDP(conn.LocalAddr().(*net.UDPAddr).Port)
	disc, err := discover.ListenV5(conn, local, cfg)
	if err != nil {
		return nil, err
	}
	disc.RegisterTalkHandler("echo", func(_ *enode.Node, _ *net.UDPAddr, req []byte) []byte { return req })
	return &peer{disc: disc, local: local}, nil
}

func (p *peer) command(f []string) (string, error) {
	if len(f) == 0 {
		return "", errors.New("empty command")
	}
	args := f[1:]
	switch {
	case f[0] == "enr" && len(args) == 0:
		return "ok " + p.local.Node().String(), nil
	case f[0] == "ping" && len(args) == 1:
		return p.ping(args[0])
	case f[0] == "findnode" && len(args) == 2:
		return p.findnode(args[0], args[1])
	case f[0] == "talk" && len(args) >= 2:
		return p.talk(args[0], args[1], strings.Join(args[2:], ""))
	case f[0] == "lookup" && len(args) == 1:
		id, err := enode.ParseID(args[0])
		if err != nil {
			return "", err
		}
		return nodes(p.disc.Lookup(id)), nil
	case f[0] == "request" && len(args) == 1:
		return p.request(args[0])
	case f[0] == "knows" && len(args) == 1:
		return p.knows(args[0])
	case f[0] == "set" && len(args) == 2:
		return p.set(args[0], args[1])
	default:
		return "", fmt.Errorf("unknown command %q", strings.Join(f, " "))
	}
}

func (p *peer) ping(text string) (string, error) {
	n, err := enode.Parse(enode.ValidSchemes, text)
	if err != nil {
		return "", err
	}
	pong, err := p.disc.Ping(n)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("ok %d %v %d", pong.ENRSeq, pong.ToIP, pong.ToPort), nil
}

func (p *peer) findnode(text, distances string) (string, error) {
	n, err := enode.Parse(enode.ValidSchemes, text)
	if err != nil {
		return "", err
	}
	var ds []uint
	for _, s := range strings.Split(distances, ",") {
		d, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return "", err
		}
		ds = append(ds, uint(d))
	}
	found, err := p.disc.Findnode(n, ds)
	if err != nil {
		return "", err
	}
	return nodes(found), nil
}

func (p *peer) talk(text, protocol, payload string) (string, error) {
	n, err := enode.Parse(enode.ValidSchemes, text)
	if err != nil {
		return "", err
	}
	req, err := hex.DecodeString(payload)
	if err != nil {
		return "", err
	}
	resp, err := p.disc.TalkRequest(n, protocol, req)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("ok %x", resp), nil
}

func (p *peer) request(text string) (string, error) {
	n, err := enode.Parse(enode.ValidSchemes, text)
	if err != nil {
		return "", err
	}
	got, err := p.disc.RequestENR(n)
	if err != nil {
		return "", err
	}
	return "ok " + got.String(), nil
}

// knows tells the sequence number of the record that the node holds of id.
func (p *peer) knows(text string) (string, error) {
	id, err := enode.ParseID(text)
	if err != nil {
		return "", err
	}
	n := p.disc.GetNode(id)
	if n == nil {
		return "", errors.New("not known")
	}
	return fmt.Sprintf("ok %d", n.Seq()), nil
}

// set puts a pair into the own record; the value is a string of bytes.
func (p *peer) set(key, value string) (string, error) {
	b, err := hex.DecodeString(value)
	if err != nil {
		return "", err
	}
	p.local.Set(enr.WithEntry(key, &b))
	return "ok " + p.local.Node().String(), nil
}

func nodes(found []*enode.Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ok %d", len(found))
	for _, n := range found {
		b.WriteByte(' ')
		b.WriteString(n.ID().String())
	}
	return b.String()
}
