package transfer

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/muster-p2p/muster/transfer/wire"
)

// Default limits of a manifest, which a receiver holds in memory.
const (
	// DefaultMaxEntries is about the largest source trees and photo libraries.
	DefaultMaxEntries = 500_000

	// DefaultMaxNames bounds the paths of a manifest together, in bytes.
	DefaultMaxNames = 48 << 20
)

// Limits bound what is sent or received in one transfer. For each field, zero
// means the default.
type Limits struct {
	// MaxEntries bounds the number of files and directories.
	MaxEntries int

	// MaxNames bounds the bytes of all their paths together.
	MaxNames int

	// MaxBytes bounds the bytes of all files together; zero means no bound.
	MaxBytes int64
}

func (l Limits) withDefaults() Limits {
	if l.MaxEntries == 0 {
		l.MaxEntries = DefaultMaxEntries
	}
	if l.MaxNames == 0 {
		l.MaxNames = DefaultMaxNames
	}
	if l.MaxBytes == 0 {
		l.MaxBytes = wire.MaxSize
	}
	return l
}

// A LimitError says which limit was hit.
type LimitError struct{ What string }

func (e *LimitError) Error() string { return "transfer: more than " + e.What }

// An entry is a file or a directory of a transfer, with its path from the
// directory that it is sent from or received to.
type entry struct {
	path     string
	dir      bool
	perm     fs.FileMode // of the nine permission bits
	modified time.Time
	size     int64
}

// A manifest is the list of what is sent. Each entry's directory comes before
// it, so a path's parents are known to be directories.
type manifest struct {
	limits  Limits
	windows bool // names must do for Windows too

	entries []entry
	index   map[string]int32
	names   int
	files   int
	bytes   int64
}

func newManifest(l Limits, windows bool) *manifest {
	return &manifest{limits: l.withDefaults(), windows: windows, index: map[string]int32{}}
}

// add checks e and appends it. The error is a [*NameError] or a [*LimitError],
// and the manifest is as it was.
func (m *manifest) add(e entry) error {
	if err := checkPath(e.path, m.windows); err != nil {
		return err
	}
	switch {
	case len(m.entries) >= m.limits.MaxEntries:
		return &LimitError{What: fmt.Sprintf("%d files and directories", m.limits.MaxEntries)}
	case m.names+len(e.path) > m.limits.MaxNames:
		return &LimitError{What: fmt.Sprintf("%d bytes of names", m.limits.MaxNames)}
	case e.size < 0 || e.size > m.limits.MaxBytes-m.bytes:
		return &LimitError{What: fmt.Sprintf("%d bytes", m.limits.MaxBytes)}
	}
	if _, twice := m.index[e.path]; twice {
		return &NameError{Path: e.path, Why: "is there twice"}
	}
	if parent := path.Dir(e.path); parent != "." {
		if i, ok := m.index[parent]; !ok || !m.entries[i].dir {
			return &NameError{Path: e.path, Why: "is in a directory that is not listed"}
		}
	}
	m.index[e.path] = int32(len(m.entries))
	m.entries = append(m.entries, e)
	m.names += len(e.path)
	m.bytes += e.size
	if !e.dir {
		m.files++
	}
	return nil
}

// collision returns two paths that are one on a file system that ignores case.
func (m *manifest) collision() error {
	seen := make(map[string]string, len(m.entries))
	for _, e := range m.entries {
		key := foldPath(e.path)
		if other, ok := seen[key]; ok {
			return &NameError{Path: e.path, Why: fmt.Sprintf("and %q are one name on the receiver's disk", other)}
		}
		seen[key] = e.path
	}
	return nil
}

// total is what the manifest adds up to.
func (m *manifest) total() wire.Total {
	return wire.Total{
		Files: uint64(m.files), Dirs: uint64(len(m.entries) - m.files), Bytes: uint64(m.bytes),
	}
}

// An Offer is what a receiver is asked to take.
type Offer struct {
	Files, Dirs int
	Bytes       int64

	// Top are the names of files and directories that are in no other, a
	// directory with a slash behind. They are checked: they have no control
	// characters.
	Top []string
}

func (m *manifest) offer() Offer {
	o := Offer{Files: m.files, Dirs: len(m.entries) - m.files, Bytes: m.bytes}
	for _, e := range m.entries {
		if strings.Contains(e.path, "/") {
			continue
		}
		name := e.path
		if e.dir {
			name += "/"
		}
		o.Top = append(o.Top, name)
	}
	return o
}
