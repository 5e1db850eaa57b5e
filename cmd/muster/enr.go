package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-p2p/muster/enr"
)

func newENRCmd(e *env) *cobra.Command {
	return group("enr", "Make and show Ethereum node records", newENRNewCmd(e), newENRShowCmd(e))
}

func newENRNewCmd(e *env) *cobra.Command {
	var (
		keyFile              string
		ip4, ip6             string
		seq                  uint64
		udp, udp6, tcp, tcp6 uint16
		quic, quic6          uint16
		text, raw            []string
		asJSON               bool
	)
	cmd := &cobra.Command{
		Use:   "new --key FILE",
		Short: "Sign a node record and print its text form",
		Long: `Sign a node record with the identity in FILE, which is made if it is not
there, and print its text form. The number is the time in milliseconds unless
--seq says otherwise, so that a later record counts as newer.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := enr.Content{Seq: enr.NextSeq(0, time.Now())}
			if cmd.Flags().Changed("seq") {
				c.Seq = seq
			}
			for flag, s := range map[string]string{"ip": ip4, "ip6": ip6} {
				if s == "" {
					continue
				}
				a, err := netip.ParseAddr(s)
				if err != nil || a.Is4() != (flag == "ip") || a.Is4In6() || a.Zone() != "" {
					return usageError(fmt.Errorf("--%s %s is no such address", flag, s), "")
				}
				c.SetIP(a)
			}
			for key, port := range map[string]uint16{"udp": udp, "udp6": udp6, "tcp": tcp, "tcp6": tcp6, "quic": quic, "quic6": quic6} {
				if port != 0 {
					c.SetUint(key, uint64(port))
				}
			}
			if err := setPairs(&c, text, raw); err != nil {
				return err
			}
			key, err := nodeKey(keyFile)
			if err != nil {
				return err
			}
			r, err := c.Sign(key)
			if err != nil {
				return usageError(err, "leave out some pairs")
			}
			return printRecord(e, r, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&keyFile, "key", "", "identity: a secp256k1 key in libp2p's encoding, or 64 hexadecimal digits")
	f.StringVar(&ip4, "ip", "", "IPv4 address")
	f.StringVar(&ip6, "ip6", "", "IPv6 address")
	f.Uint16Var(&udp, "udp", 0, "UDP port")
	f.Uint16Var(&udp6, "udp6", 0, "UDP port of IPv6, if it is another")
	f.Uint16Var(&tcp, "tcp", 0, "TCP port")
	f.Uint16Var(&tcp6, "tcp6", 0, "TCP port of IPv6, if it is another")
	f.Uint16Var(&quic, "quic", 0, "QUIC port")
	f.Uint16Var(&quic6, "quic6", 0, "QUIC port of IPv6, if it is another")
	f.Uint64Var(&seq, "seq", 0, "sequence number")
	f.StringArrayVar(&text, "set", nil, "another pair, `KEY=TEXT`")
	f.StringArrayVar(&raw, "set-rlp", nil, "another pair whose value is raw RLP, `KEY=HEX`")
	f.BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func setPairs(c *enr.Content, text, raw []string) error {
	for _, p := range text {
		k, v, ok := strings.Cut(p, "=")
		if !ok {
			return usageError(fmt.Errorf("--set %s has no '='", p), "")
		}
		c.Set(k, []byte(v))
	}
	for _, p := range raw {
		k, v, ok := strings.Cut(p, "=")
		b, err := hex.DecodeString(strings.TrimPrefix(v, "0x"))
		if !ok || err != nil {
			return usageError(fmt.Errorf("--set-rlp %s is not KEY=HEX", p), "")
		}
		if err := c.SetRaw(k, b); err != nil {
			return usageError(err, "")
		}
	}
	return nil
}

func newENRShowCmd(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show TEXT",
		Short: "Verify a node record and print what it says",
		Args:  exactArgs("TEXT"),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := parseRecord(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(e.stdout).Encode(describe(r))
			}
			d := describe(r)
			fmt.Fprintf(e.stdout, "id %s\npeer %s\nseq %d\nsize %d\n", d.ID, d.Peer, d.Seq, d.Size)
			for _, p := range d.Pairs {
				fmt.Fprintf(e.stdout, "%s %s\n", p.Key, p.show())
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// parseRecord reads a record in an argument.
func parseRecord(text string) (*enr.Record, error) {
	r, err := enr.ParseText(strings.TrimSpace(text))
	if err != nil {
		return nil, usageError(fmt.Errorf("invalid record: %w", err), "a record begins with enr: and has no spaces")
	}
	return r, nil
}

// A recordView is a record as the command prints it.
type recordView struct {
	ENR   string     `json:"enr"`
	ID    enr.ID     `json:"id"`
	Peer  string     `json:"peer"`
	Seq   uint64     `json:"seq"`
	Size  int        `json:"size"`
	UDP   string     `json:"udp,omitempty"`
	UDP6  string     `json:"udp6,omitempty"`
	TCP   string     `json:"tcp,omitempty"`
	TCP6  string     `json:"tcp6,omitempty"`
	Pairs []pairView `json:"pairs"`
}

type pairView struct {
	Key   string `json:"key"`
	RLP   string `json:"rlp"`
	Value string `json:"value,omitempty"` // of a known key
}

func (p pairView) show() string {
	if p.Value != "" {
		return p.Value
	}
	return "rlp:" + p.RLP
}

func describe(r *enr.Record) recordView {
	v := recordView{ENR: r.String(), ID: r.ID(), Peer: r.PeerID().String(), Seq: r.Seq(), Size: len(r.Bytes())}
	for _, f := range []struct {
		to  *string
		get func() (netip.AddrPort, bool)
	}{{&v.UDP, r.UDPEndpoint4}, {&v.UDP6, r.UDPEndpoint6}, {&v.TCP, r.TCPEndpoint4}, {&v.TCP6, r.TCPEndpoint6}} {
		if ap, ok := f.get(); ok {
			*f.to = ap.String()
		}
	}
	known := knownValues(r)
	for k, rlp := range r.Pairs() {
		v.Pairs = append(v.Pairs, pairView{Key: k, RLP: hex.EncodeToString(rlp), Value: known[k]})
	}
	return v
}

// knownValues returns the values of the standard keys as people write them. A
// malformed value is not among them.
func knownValues(r *enr.Record) map[string]string {
	key := r.PublicKey().Compressed()
	v := map[string]string{"id": "v4", "secp256k1": hex.EncodeToString(key[:])}
	if a, ok := r.IP4(); ok {
		v["ip"] = a.String()
	}
	if a, ok := r.IP6(); ok {
		v["ip6"] = a.String()
	}
	for k, get := range map[string]func() (uint16, bool){
		"udp": r.UDP, "udp6": r.UDP6, "tcp": r.TCP, "tcp6": r.TCP6, "quic": r.QUIC, "quic6": r.QUIC6,
	} {
		if p, ok := get(); ok {
			v[k] = fmt.Sprint(p)
		}
	}
	return v
}

func printRecord(e *env, r *enr.Record, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(e.stdout).Encode(describe(r))
	}
	_, err := fmt.Fprintln(e.stdout, r)
	return err
}

// nodeKey returns the node identity in file: made if the file is not there
// yet, and one for this process only if file is empty. The file holds a
// secp256k1 key, in libp2p's encoding or as 64 hexadecimal digits.
func nodeKey(file string) (*enr.PrivateKey, error) {
	if file == "" {
		return enr.GenerateKey()
	}
	b, err := readKeyFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return createNodeKey(file)
	}
	if err != nil {
		return nil, err
	}
	if digits := strings.TrimPrefix(strings.TrimSpace(string(b)), "0x"); len(digits) == 64 {
		if raw, err := hex.DecodeString(digits); err == nil {
			key, err := enr.NewPrivateKey(raw)
			if err != nil {
				return nil, usageError(fmt.Errorf("key %s: %w", file, err), "")
			}
			return key, nil
		}
	}
	lk, err := loadKey(file)
	if err != nil {
		return nil, err
	}
	key, err := enr.PrivateKeyOf(lk)
	if err != nil {
		return nil, usageError(fmt.Errorf("key %s: %w", file, err), "node records need a secp256k1 key: name a file that is not there and one is made")
	}
	return key, nil
}

func createNodeKey(file string) (*enr.PrivateKey, error) {
	key, err := enr.GenerateKey()
	if err != nil {
		return nil, err
	}
	lk, err := enr.Libp2pKey(key)
	if err != nil {
		return nil, err
	}
	if _, err := writeKey(file, lk); err != nil {
		return nil, err
	}
	return key, nil
}
