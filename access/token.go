package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A Scope is what a token is good for.
type Scope string

// The scopes.
const (
	Relay      Scope = "relay"      // the rdv server: introductions and relayed bytes
	Reach      Scope = "reach"      // to be reached, and to invite; it includes minted tokens
	Rendezvous Scope = "rendezvous" // to register names; only for tokens of a peer
)

// Scopes lists all of them.
func Scopes() []Scope { return []Scope{Relay, Reach, Rendezvous} }

// The parts of a token, and its bounds.
const (
	accountLen = 5
	secretLen  = 20 // 160 bits
	prefix     = "mt1"

	// MaxToken bounds the text of an issued token that is looked at, in bytes.
	MaxToken = 64

	// MaxNote and MaxNamespaces bound what an operator may say of a token.
	MaxNote       = 200
	MaxNamespaces = 64
)

// An Account is what uses of an issued token are counted by: its ID. The zero
// Account is nobody's.
type Account [accountLen]byte

func (a Account) String() string { return base32Lower.EncodeToString(a[:]) }

// ParseAccount reads what String writes.
func ParseAccount(s string) (a Account, err error) {
	b, err := base32Lower.DecodeString(s)
	if err != nil || len(b) != accountLen || s != strings.ToLower(s) {
		return a, fmt.Errorf("access: %q is not the ID of a token", s)
	}
	return Account(b), nil
}

// A Token is what is kept of an issued token. Its text is not.
type Token struct {
	ID      string    `json:"id"`      // of the account
	Hash    string    `json:"hash"`    // SHA-256 of the text, hexadecimal
	Scopes  []Scope   `json:"scopes"`  // at least one
	Created time.Time `json:"created"` // for people
	Expires time.Time `json:"expires,omitzero"`

	// Bytes bounds what may be relayed in all, both directions together; zero
	// is no bound.
	Bytes int64 `json:"bytes,omitempty"`

	// Peer, if not empty, is the only peer that may use the token where peers
	// are known: the text is no use to others there.
	Peer peer.ID `json:"peer,omitempty"`

	// Namespaces, if not empty, are the only names that the token lets register.
	Namespaces []string `json:"namespaces,omitempty"`

	// Note is the operator's.
	Note string `json:"note,omitempty"`
}

// validate says what is wrong with a token that is to be issued or was read.
func (t *Token) validate() error {
	switch {
	case len(t.Scopes) == 0:
		return fmt.Errorf("access: a token needs a scope, of %v", Scopes())
	case slices.Contains(t.Scopes, Rendezvous) && t.Peer == "":
		return fmt.Errorf("access: scope %s needs a peer: rendezvous has no place for a token", Rendezvous)
	case t.Bytes < 0:
		return fmt.Errorf("access: a quota of %d bytes", t.Bytes)
	case len(t.Note) > MaxNote:
		return fmt.Errorf("access: the note is longer than %d bytes", MaxNote)
	case len(t.Namespaces) > MaxNamespaces:
		return fmt.Errorf("access: more than %d namespaces", MaxNamespaces)
	}
	for _, s := range t.Scopes {
		if !slices.Contains(Scopes(), s) {
			return fmt.Errorf("access: unknown scope %q, want some of %v", s, Scopes())
		}
	}
	return nil
}

// newText makes the text of a token and what identifies it.
//
//	mt1 . ID of 8 letters . secret of 32 letters
//
// All of it is of the characters that a header and a path take as they are.
func newText() (text string, id Account, hash string) {
	var b [accountLen + secretLen]byte
	for reserved := true; reserved || id == (Account{}); _, reserved = modeOf(id) {
		rand.Read(b[:]) // never fails, by its contract
		id = Account(b[:accountLen])
	}
	text = prefix + "." + id.String() + "." + base32Lower.EncodeToString(b[accountLen:])
	sum := sha256.Sum256([]byte(text))
	return text, id, hex.EncodeToString(sum[:])
}

// idOf returns the account that a text names, and whether it can be a token.
func idOf(text string) (Account, bool) {
	if len(text) > MaxToken {
		return Account{}, false
	}
	rest, ok := strings.CutPrefix(text, prefix+".")
	id, _, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return Account{}, false
	}
	a, err := ParseAccount(id)
	return a, err == nil
}

// matches compares in a time that tells nothing of the token.
func (t *Token) matches(text string) bool {
	sum := sha256.Sum256([]byte(text))
	var buf [2 * sha256.Size]byte
	hex.Encode(buf[:], sum[:])
	return subtle.ConstantTimeCompare(buf[:], []byte(t.Hash)) == 1
}

// Short names a secret in a log, by six hexadecimal digits of its hash: enough
// to tell two apart, and too little to use one.
func Short(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:3])
}
