package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// MaxTokens bounds the tokens of a directory: some 400 bytes each.
	MaxTokens = 10_000

	// maxTokenFile bounds what is read of a file.
	maxTokenFile = 64 << 10

	// lookInterval is how long a change to the directory may go unnoticed.
	lookInterval = time.Second

	tokenMode = 0o600
	dirMode   = 0o700
	tokenExt  = ".json"

	// revokedExt is what is left of a revoked token: it may not pay for the
	// meetings that it was good for when they were arranged.
	revokedExt = ".revoked"
)

// Tokens are the issued tokens in a directory, one file each, so that a token
// is issued and revoked by one atomic step and no lock is needed: a server
// that runs notices within a second. Only hashes are in the files. It may be
// used by several goroutines at once, and the directory by several processes.
type Tokens struct {
	dir string

	mu     sync.Mutex // guards the following
	looked time.Time
	stamp  time.Time // of the directory, when it was read
	byID   map[Account]*Token
	gone   map[Account]bool // revoked
	err    error            // of the last reading, nil if it was good
}

// OpenTokens returns the tokens of dir, which is made when the first is issued.
// It fails if there is something that is no directory of tokens.
func OpenTokens(dir string) (*Tokens, error) {
	t := &Tokens{dir: dir}
	if err := t.Reload(); err != nil {
		return nil, err
	}
	return t, nil
}

// Issue makes a token and returns its text, which is not kept and cannot be
// had again. It fills in ID, Hash and Created.
func (t *Tokens) Issue(now time.Time, tok Token) (text string, _ Token, err error) {
	if err := tok.validate(); err != nil {
		return "", tok, err
	}
	if err := t.Reload(); err != nil {
		return "", tok, err
	}
	if len(t.List()) >= MaxTokens {
		return "", tok, fmt.Errorf("access: there are %d tokens already", MaxTokens)
	}
	text, id, hash := newText()
	tok.ID, tok.Hash, tok.Created = id.String(), hash, now.UTC().Truncate(time.Second)
	b, err := json.Marshal(tok)
	if err != nil {
		return "", tok, fmt.Errorf("access: %w", err)
	}
	if err := makeDir(t.dir); err != nil {
		return "", tok, fmt.Errorf("access: %w", err)
	}
	if err := WriteFile(filepath.Join(t.dir, tok.ID+tokenExt), append(b, '\n')); err != nil {
		return "", tok, fmt.Errorf("access: %w", err)
	}
	return text, tok, t.Reload()
}

// ErrNoToken is returned by Revoke if there is no such token.
var ErrNoToken = errors.New("access: no such token")

// Revoke forgets a token by its ID, the eight letters between its dots.
func (t *Tokens) Revoke(id string) error {
	if _, err := ParseAccount(id); err != nil {
		return err
	}
	err := os.Rename(filepath.Join(t.dir, id+tokenExt), filepath.Join(t.dir, id+revokedExt))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNoToken, id)
	}
	if err != nil {
		return fmt.Errorf("access: %w", err)
	}
	return errors.Join(syncDir(t.dir), t.Reload())
}

// List returns the tokens by the time they were made.
func (t *Tokens) List() []Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Token
	for _, tok := range t.byID {
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

// Reload reads the directory. If it cannot, the tokens are those that were
// there before, less none: a revoked one may be among them, so the error is
// for the operator.
func (t *Tokens) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reloadLocked()
}

func (t *Tokens) reloadLocked() error {
	byID, gone, stamp, err := readTokens(t.dir)
	t.err = err
	if err != nil {
		return err
	}
	t.byID, t.gone, t.stamp = byID, gone, stamp
	return nil
}

// find returns the token of a text, nil if there is none.
func (t *Tokens) find(now time.Time, text string) *Token {
	id, ok := idOf(text)
	if !ok {
		return nil
	}
	tok := t.account(now, id)
	if tok == nil {
		return nil
	}
	if !tok.matches(text) {
		return nil
	}
	return tok
}

// account returns the token with an ID, nil if there is none.
func (t *Tokens) account(now time.Time, id Account) *Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lookLocked(now)
	return t.byID[id]
}

// revoked reports whether there was a token with an ID, and is no more.
func (t *Tokens) revoked(now time.Time, id Account) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lookLocked(now)
	return t.gone[id]
}

// any reports whether f is true of a token. It holds the lock while f runs.
func (t *Tokens) any(now time.Time, f func(*Token) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lookLocked(now)
	for _, tok := range t.byID {
		if f(tok) {
			return true
		}
	}
	return false
}

// lookLocked reads the directory again if it has changed.
func (t *Tokens) lookLocked(now time.Time) {
	if d := now.Sub(t.looked); d >= 0 && d < lookInterval {
		return
	}
	t.looked = now
	info, err := os.Stat(t.dir)
	if err == nil && info.ModTime().Equal(t.stamp) || err != nil && t.stamp.IsZero() {
		return
	}
	_ = t.reloadLocked() // Health tells
}

// Health returns nil, or why the tokens may be out of date.
func (t *Tokens) Health() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

func readTokens(dir string) (byID map[Account]*Token, gone map[Account]bool, stamp time.Time, err error) {
	// The stamp is from before the reading: what changes in between is seen at
	// the next look.
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, time.Time{}, nil
	}
	if err != nil {
		return nil, nil, time.Time{}, fmt.Errorf("access: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, time.Time{}, fmt.Errorf("access: %w", err)
	}
	stamp = info.ModTime()
	if time.Since(stamp) < time.Second {
		stamp = time.Unix(1, 0) // too fresh to tell a later change from this one
	}
	byID, gone = make(map[Account]*Token), make(map[Account]bool)
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), revokedExt); ok {
			if account, err := ParseAccount(id); err == nil && len(gone) < MaxTokens {
				gone[account] = true
			}
			continue
		}
		id, ok := strings.CutSuffix(e.Name(), tokenExt)
		account, err := ParseAccount(id)
		if !ok || err != nil {
			continue // a file that is being written
		}
		if len(byID) >= MaxTokens {
			return nil, nil, time.Time{}, fmt.Errorf("access: %s holds more than %d tokens", dir, MaxTokens)
		}
		tok, err := readToken(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // revoked in between
		}
		if err != nil {
			return nil, nil, time.Time{}, err
		}
		byID[account] = tok
	}
	return byID, gone, stamp, nil
}

func readToken(name string) (*Token, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	tok := &Token{}
	if err := json.Unmarshal(b, tok); err != nil {
		return nil, fmt.Errorf("access: token %s is damaged: %w", name, err)
	}
	if tok.ID+tokenExt != filepath.Base(name) {
		return nil, fmt.Errorf("access: token %s names another ID", name)
	}
	if err := tok.validate(); err != nil {
		return nil, fmt.Errorf("token %s: %w", name, err)
	}
	return tok, nil
}

// makeDir makes the directory of the tokens, for the owner of the one above it.
func makeDir(dir string) error {
	err := os.Mkdir(dir, dirMode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(dir, dirMode)
	}
	if err != nil {
		return err
	}
	d, err := openDir(dir)
	if d == nil {
		return err
	}
	return errors.Join(likeDir(d, filepath.Dir(dir)), d.Close())
}

// WriteFile writes a file that only its owner may read, whole or not at all,
// and it is on the disk when it returns. If root writes it, the owner is that of
// the directory.
func WriteFile(name string, b []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".new-*") // CreateTemp gives mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Chmod(tokenMode), likeDir(tmp, filepath.Dir(name)), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// syncDir makes the names of a directory durable, where directories can be
// synced.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return nil //nolint:nilerr // Windows opens no directories, and needs no sync
	}
	_ = d.Sync() // not every file system can
	return d.Close()
}

func (t *Tokens) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}
