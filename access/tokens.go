package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// lookInterval is how long a change to the directory may go unnoticed.
	lookInterval = time.Second

	tokenMode = 0o600
	dirMode   = 0o700
	tokenExt  = ".json"

	// revokedExt is what is left of a revoked token: it may not pay for the
	// meetings that it was good for when they were arranged.
	revokedExt = ".revoked"
)

// A TokenDir is the issued tokens in a directory, one file each, so that a token
// is issued and revoked by one atomic step and no lock is needed: a server
// that runs notices within a second. Only hashes are in the files. It may be
// used by several goroutines at once, and the directory by several processes.
type TokenDir struct {
	dir string
	log *slog.Logger

	mu     sync.Mutex // guards the following
	looked time.Time
	missed time.Time // the last Look
	stamp  time.Time // of the directory, when it was read
	set    *TokenSet
	err    error // of the last reading, nil if it was good
}

// OpenTokens returns the tokens of dir, which is made when the first is issued.
// It fails if there is something that is no directory of tokens. Files that are
// damaged are told to log, once each; it may be nil.
func OpenTokens(dir string, log *slog.Logger) (*TokenDir, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &TokenDir{dir: dir, log: log, set: ReadTokens(nil)}
	if err := t.Reload(context.Background()); err != nil {
		return nil, err
	}
	return t, nil
}

// Issue implements [Tokens].
func (t *TokenDir) Issue(ctx context.Context, now time.Time, tok Token) (text string, _ Token, err error) {
	if err := t.Reload(ctx); err != nil {
		return "", tok, err
	}
	if t.current().Len() >= MaxTokens {
		return "", tok, fmt.Errorf("access: there are %d tokens already", MaxTokens)
	}
	text, tok, kept, err := NewToken(now, tok)
	if err != nil {
		return "", tok, err
	}
	if err := makeDir(t.dir); err != nil {
		return "", tok, fmt.Errorf("access: %w", err)
	}
	if err := WriteFile(filepath.Join(t.dir, tok.ID+tokenExt), append(kept.JSON, '\n')); err != nil {
		return "", tok, fmt.Errorf("access: %w", err)
	}
	return text, tok, t.Reload(ctx)
}

// Revoke implements [Tokens]. It takes the ID of a damaged file as well.
func (t *TokenDir) Revoke(ctx context.Context, id string) error {
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
	return errors.Join(syncDir(t.dir), t.Reload(ctx))
}

// Set implements [Tokens]: it looks at the directory once a second.
func (t *TokenDir) Set(now time.Time) *TokenSet {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lookLocked(now)
	return t.set
}

func (t *TokenDir) current() *TokenSet {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.set
}

// Reload implements [Tokens]. If the directory cannot be read, the tokens are
// those that were there before, less none: a revoked one may be among them, so
// the error is for the operator.
func (t *TokenDir) Reload(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reloadLocked()
}

func (t *TokenDir) reloadLocked() error {
	kept, stamp, err := readTokens(t.dir)
	t.err = err
	if err != nil {
		return err
	}
	before := t.set.damaged
	t.set, t.stamp = ReadTokens(kept), stamp
	for _, id := range t.set.Damaged() {
		if _, told := before[id]; !told {
			t.log.Error("token is damaged and left out: restore its file, or revoke it", "id", id, "dir", t.dir, "err", t.set.damaged[id])
		}
	}
	return nil
}

// lookLocked is changedLocked, once a second.
func (t *TokenDir) lookLocked(now time.Time) {
	if d := now.Sub(t.looked); d >= 0 && d < lookInterval {
		return
	}
	t.looked = now
	t.changedLocked()
}

// changedLocked reads the directory again if it has changed.
func (t *TokenDir) changedLocked() {
	info, err := os.Stat(t.dir)
	if err == nil && info.ModTime().Equal(t.stamp) || err != nil && t.stamp.IsZero() {
		return
	}
	_ = t.reloadLocked() // Health tells
}

// Look implements [Tokens].
func (t *TokenDir) Look(context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.missed) >= LookAgain {
		t.missed = now
		t.changedLocked()
	}
}

// Health implements [Tokens].
func (t *TokenDir) Health() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(t.err, t.set.Health())
}

// Kept returns what is in the directory, for another keeper to take over.
func (t *TokenDir) Kept() ([]KeptToken, error) {
	kept, _, err := readTokens(t.dir)
	return kept, err
}

func readTokens(dir string) (kept []KeptToken, stamp time.Time, err error) {
	// The stamp is from before the reading: what changes in between is seen at
	// the next look.
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("access: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("access: %w", err)
	}
	stamp = info.ModTime()
	if time.Since(stamp) < time.Second {
		stamp = time.Unix(1, 0) // too fresh to tell a later change from this one
	}
	gone, tokens := 0, 0
	for _, e := range entries {
		id, ext := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())), filepath.Ext(e.Name())
		if _, err := ParseAccount(id); err != nil || !slices.Contains([]string{tokenExt, revokedExt}, ext) {
			continue // a file that is being written
		}
		if ext == revokedExt {
			if gone++; gone <= MaxTokens {
				kept = append(kept, KeptToken{ID: id, Revoked: true})
			}
			continue
		}
		if tokens++; tokens > MaxTokens {
			return nil, time.Time{}, fmt.Errorf("access: %s holds more than %d tokens", dir, MaxTokens)
		}
		b, err := readFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // revoked in between
		}
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("access: %w", err)
		}
		kept = append(kept, KeptToken{ID: id, JSON: b})
	}
	return kept, stamp, nil
}

// readFile reads a file of a token, and one byte more than that may have.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, MaxTokenSize+1))
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
