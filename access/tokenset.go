package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// MaxTokens bounds the issued tokens of a point, or of those that share them:
// some 400 bytes each.
const MaxTokens = 10_000

// LookAgain bounds how often what keeps the tokens is looked at for strangers,
// and LookWait how long they wait.
const (
	LookAgain = 100 * time.Millisecond
	LookWait  = 300 * time.Millisecond
)

// MaxTokenSize bounds what is kept of a token, in bytes.
const MaxTokenSize = 64 << 10

// Tokens keep the issued tokens. [TokenDir] does for one point, package
// pgaccess for several over one database. Their methods may be called by
// several goroutines at once.
type Tokens interface {
	// Set returns the tokens that are known now. It is called for each request,
	// so it waits for nobody.
	Set(now time.Time) *TokenSet

	// Issue makes a token and returns its text, which is not kept and cannot be
	// had again. It fills in ID, Hash and Created.
	Issue(ctx context.Context, now time.Time, tok Token) (text string, _ Token, err error)

	// Revoke forgets a token by its ID, the eight letters between its dots. The
	// error wraps ErrNoToken if there is none.
	Revoke(ctx context.Context, id string) error

	// Reload brings Set up to date. If it cannot, Set returns what it did before.
	Reload(ctx context.Context) error

	// Look is Reload for somebody who has come with a token that Set does not
	// have: it may have been issued a moment ago. Strangers can have it called,
	// so it does nothing if it was called within LookAgain. Ctx bounds the wait.
	Look(ctx context.Context)

	// Health returns nil, or why Set may be out of date or lacks tokens.
	Health() error
}

// ErrNoToken is returned by Revoke if there is no such token.
var ErrNoToken = errors.New("access: no such token")

// A TokenSet is the issued tokens at a moment. It does not change.
type TokenSet struct {
	byID    map[Account]*Token
	gone    map[Account]bool // revoked
	damaged map[string]error
}

// A KeptToken is a token as it is kept: in a file, or a row.
type KeptToken struct {
	ID      string // as the file or row is called; what is not one is passed over
	JSON    []byte // of the Token; not looked at if it is revoked
	Revoked bool   // it may not pay for the meetings that it was good for when they were arranged
}

// ReadTokens returns the set of what is kept. One that is damaged is left out
// and named by Damaged, so that it does no harm to others.
func ReadTokens(kept []KeptToken) *TokenSet {
	s := &TokenSet{byID: make(map[Account]*Token), gone: make(map[Account]bool), damaged: make(map[string]error)}
	for _, k := range kept {
		account, err := ParseAccount(k.ID)
		if err != nil {
			continue
		}
		if k.Revoked {
			s.gone[account] = true
			continue
		}
		tok, err := parseToken(k)
		if err != nil {
			s.damaged[k.ID] = err
			continue
		}
		s.byID[account] = tok
	}
	return s
}

func parseToken(k KeptToken) (*Token, error) {
	tok := &Token{}
	if len(k.JSON) > MaxTokenSize {
		return nil, errors.New("too long")
	}
	if err := json.Unmarshal(k.JSON, tok); err != nil {
		return nil, err
	}
	if tok.ID != k.ID {
		return nil, errors.New("names another ID")
	}
	return tok, tok.validate()
}

// NewToken makes the text of a token that is to be issued, and what is kept of
// it.
func NewToken(now time.Time, tok Token) (text string, _ Token, kept KeptToken, err error) {
	if err := tok.validate(); err != nil {
		return "", tok, kept, err
	}
	text, id, hash := newText()
	tok.ID, tok.Hash, tok.Created = id.String(), hash, now.UTC().Truncate(time.Second)
	b, err := json.Marshal(tok)
	if err == nil && len(b) > MaxTokenSize {
		err = errors.New("the token is too large")
	}
	if err != nil {
		return "", tok, kept, fmt.Errorf("access: %w", err)
	}
	return text, tok, KeptToken{ID: tok.ID, JSON: b}, nil
}

// Len is how many tokens are known.
func (s *TokenSet) Len() int { return len(s.byID) }

// List returns the tokens by the time they were made.
func (s *TokenSet) List() []Token {
	var out []Token
	for _, tok := range s.byID {
		out = append(out, *tok)
	}
	slices.SortFunc(out, func(a, b Token) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Damaged returns the IDs of what is kept and cannot be read, in order.
func (s *TokenSet) Damaged() []string { return slices.Sorted(maps.Keys(s.damaged)) }

// Health returns nil, or an error that names what is damaged.
func (s *TokenSet) Health() error {
	const named = 3
	ids := s.Damaged()
	switch {
	case len(ids) == 0:
		return nil
	case len(ids) > named:
		return fmt.Errorf("access: %d tokens are damaged, such as %s: %w", len(ids), strings.Join(ids[:named], ", "), s.damaged[ids[0]])
	default:
		return fmt.Errorf("access: damaged: token %s: %w", strings.Join(ids, ", "), s.damaged[ids[0]])
	}
}

// find returns the token of a text, nil if there is none.
func (s *TokenSet) find(text string) *Token {
	id, ok := idOf(text)
	if !ok {
		return nil
	}
	if tok := s.byID[id]; tok != nil && tok.matches(text) {
		return tok
	}
	return nil
}

// any reports whether f is true of a token.
func (s *TokenSet) any(f func(*Token) bool) bool {
	for _, tok := range s.byID {
		if f(tok) {
			return true
		}
	}
	return false
}
