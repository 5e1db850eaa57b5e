package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A Mode says whom a point introduces and relays for.
type Mode uint8

// The modes, from the strictest on. Minted tokens are taken in all but Closed;
// one that nobody pays for and that a mode let somebody have is not taken in a
// stricter one.
const (
	Closed     Mode = iota // nobody
	ByToken                // who has an issued token
	ByName                 // peers registered under one of Policy.RelayNames, and who has an issued token
	OpenToEach             // everybody: an open relay
)

var modeNames = []string{"closed", "token", "namespace", "open"}

func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// ParseMode reads what String writes.
func ParseMode(s string) (Mode, error) {
	i := slices.Index(modeNames, s)
	if i < 0 {
		return 0, fmt.Errorf("access: unknown mode %q, want one of %s", s, strings.Join(modeNames, ", "))
	}
	return Mode(i), nil
}

// MaxPatterns bounds each list of a Policy.
const MaxPatterns = 1024

// A Policy is what an operator allows. The zero Policy relays for nobody and
// lets everybody register any name.
type Policy struct {
	// Relay says whom the point introduces and relays for.
	Relay Mode

	// RelayNames are the names that ByName is about, without wildcards.
	RelayNames []string

	// RegisterNames, if not empty, are the only names that may be registered
	// and listed. A * at the end of one stands for any rest. Tokens of scope
	// Rendezvous let their peers register further ones.
	RegisterNames []string

	// RegisterByToken lets only peers register that a token of scope Rendezvous
	// names.
	RegisterByToken bool

	// Banned peers may nothing.
	Banned []peer.ID

	// SessionBytes bounds what is relayed under one token of a meeting that no
	// issued token pays for, both directions together. Zero is no bound.
	SessionBytes int64
}

func (p *Policy) validate() error {
	for _, list := range [][]string{p.RelayNames, p.RegisterNames} {
		if len(list) > MaxPatterns {
			return fmt.Errorf("access: more than %d names", MaxPatterns)
		}
	}
	if len(p.Banned) > MaxPatterns {
		return fmt.Errorf("access: more than %d banned peers", MaxPatterns)
	}
	if p.Relay == ByName && len(p.RelayNames) == 0 {
		return fmt.Errorf("access: mode %s needs the names of the peers to relay for", ByName)
	}
	for _, n := range p.RelayNames {
		if n == "" || strings.Contains(n, "*") {
			return fmt.Errorf("access: %q is not a whole name", n)
		}
	}
	if p.SessionBytes < 0 {
		return fmt.Errorf("access: a quota of %d bytes", p.SessionBytes)
	}
	return nil
}

// matches reports whether a name is in a list of names and prefixes.
func matches(list []string, name string) bool {
	return slices.ContainsFunc(list, func(p string) bool {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		return p == name
	})
}
