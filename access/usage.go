package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"sync"
)

// maxUsage bounds the sessions that are counted, and maxUsageFile what is read
// of the tokens. Past it sessions that were little used are forgotten; tokens
// are an operator's, and never are.
const (
	maxUsage     = 65536
	maxUsageFile = 8 << 20
)

// Usage counts bytes by token. It may be used by several goroutines at once.
type Usage struct {
	file   string // empty: not kept
	shared bool

	mu      sync.Mutex // guards the following
	bytes   map[string]int64
	pending map[string]int64 // of shared: counted since TakePending
	changed bool
}

// NewUsage returns counters that are not kept.
func NewUsage() *Usage { return &Usage{bytes: make(map[string]int64)} }

// NewSharedUsage returns counters of which other points count the same: what
// is counted for issued tokens here is for TakePending, and what all have
// counted comes by Merge. Quotas hold for the sum that is known.
func NewSharedUsage() *Usage {
	u := NewUsage()
	u.shared, u.pending = true, make(map[string]int64)
	return u
}

// TakePending returns what was counted for issued tokens since the last call,
// for the caller to add to what all points have counted, and then to Merge.
func (u *Usage) TakePending() map[string]int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	p := u.pending
	u.pending = make(map[string]int64)
	return p
}

// Merge takes in what all points have counted for some tokens, all that
// TakePending has returned included.
func (u *Usage) Merge(totals map[string]int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, n := range totals {
		if isAccount(id) {
			u.bytes[id] = n + u.pending[id]
		}
	}
}

// OpenUsage returns the counters that are kept in a file, which is made by
// Save. Between two calls of Save a crash forgets what was counted.
func OpenUsage(file string) (*Usage, error) {
	u := NewUsage()
	u.file = file
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxUsageFile))
	if err == nil {
		err = json.Unmarshal(b, &u.bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("access: usage %s is damaged: %w", file, err)
	}
	if u.bytes == nil {
		u.bytes = make(map[string]int64)
	}
	return u, nil
}

// Bytes returns what was counted for the token with an ID.
func (u *Usage) Bytes(id string) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.bytes[id]
}

func (u *Usage) add(id string, n int64) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.bytes[id]; !ok && len(u.bytes) >= maxUsage {
		u.shrinkLocked()
	}
	u.bytes[id] += n
	if u.shared && isAccount(id) {
		u.pending[id] += n
	}
	u.changed = true
	return u.bytes[id]
}

// shrinkLocked forgets the sessions that are not above their mean: at least one,
// if there is any.
func (u *Usage) shrinkLocked() {
	var sum, sessions float64
	for id, n := range u.bytes {
		if !isAccount(id) {
			sum += float64(n)
			sessions++
		}
	}
	maps.DeleteFunc(u.bytes, func(id string, n int64) bool { return float64(n)*sessions <= sum && !isAccount(id) })
}

func isAccount(id string) bool {
	_, err := ParseAccount(id)
	return err == nil
}

// Save writes the counters of issued tokens to the file, if they have changed.
// Those of sessions end with the process.
func (u *Usage) Save() error {
	u.mu.Lock()
	kept := make(map[string]int64)
	for id, n := range u.bytes {
		if isAccount(id) {
			kept[id] = n
		}
	}
	changed := u.changed && u.file != ""
	u.changed = false
	u.mu.Unlock()
	if !changed {
		return nil
	}
	b, err := json.Marshal(kept)
	if err == nil {
		err = WriteFile(u.file, b)
	}
	if err != nil {
		u.mu.Lock()
		u.changed = true
		u.mu.Unlock()
		return fmt.Errorf("access: save usage: %w", err)
	}
	return nil
}
