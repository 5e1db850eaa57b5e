package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/muster-p2p/muster/transfer/wire"
)

// A Source is what is sent: the files and directories under some paths, as
// they were when [Scan] listed them. It may be sent any number of times, and
// from several goroutines at once. Close it when it is not sent any more.
type Source struct {
	manifest *manifest
	roots    []*os.Root
	places   []place // of each entry

	// Skipped lists what is in the directories and is not sent: symbolic links,
	// devices, sockets, pipes, and partials of transfers. At most 1,000 are
	// listed.
	Skipped []string
}

// maxSkipped bounds Source.Skipped.
const maxSkipped = 1000

// A place is where an entry is here: a name in a root.
type place struct {
	root int32
	name string
}

// Scan lists the files and directories under paths. A path that is a symbolic
// link is followed, as a person named it; links further down are not. Each
// path's last element becomes a name at the receiver, so two must not be the
// same. The error names the path that is at fault; nothing has been sent then.
func Scan(ctx context.Context, paths []string, limits Limits) (_ *Source, err error) {
	s := &Source{manifest: newManifest(limits, false)}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if len(paths) == 0 {
		return nil, errors.New("transfer: nothing to send")
	}
	for _, p := range paths {
		if err := s.scan(ctx, p); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Offer is what a receiver will be asked to take.
func (s *Source) Offer() Offer { return s.manifest.offer() }

// Close frees the directories that the source holds open.
func (s *Source) Close() error {
	var errs []error
	for _, r := range s.roots {
		errs = append(errs, r.Close())
	}
	s.roots = nil
	return errors.Join(errs...)
}

func (s *Source) scan(ctx context.Context, p string) error {
	abs, err := filepath.Abs(p)
	if err != nil {
		return fmt.Errorf("transfer: %w", err)
	}
	base := filepath.Base(abs)
	if base == string(filepath.Separator) || base == filepath.VolumeName(abs) {
		return fmt.Errorf("transfer: %s has no name to send it under", p)
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return fmt.Errorf("transfer: %w", err)
	}
	info, err := os.Stat(abs)
	switch {
	case err != nil:
		return fmt.Errorf("transfer: %w", err)
	case info.IsDir():
		return s.scanDir(ctx, abs, base)
	case info.Mode().IsRegular():
		root, err := s.open(filepath.Dir(abs))
		if err != nil {
			return err
		}
		return s.addFile(root, filepath.Base(abs), base, info)
	default:
		return fmt.Errorf("transfer: %s is neither a file nor a directory", p)
	}
}

// open holds dir open and returns its number.
func (s *Source) open(dir string) (int32, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, fmt.Errorf("transfer: %w", err)
	}
	s.roots = append(s.roots, root)
	return int32(len(s.roots) - 1), nil
}

func (s *Source) scanDir(ctx context.Context, dir, base string) error {
	n, err := s.open(dir)
	if err != nil {
		return err
	}
	return fs.WalkDir(s.roots[n].FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("transfer: %s: %w", filepath.Join(dir, name), err)
		case ctx.Err() != nil:
			return fmt.Errorf("transfer: %w", ctx.Err())
		}
		to := path.Join(base, name)
		info, err := d.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // gone since its directory was read
		case err != nil:
			return fmt.Errorf("transfer: %s: %w", filepath.Join(dir, name), err)
		case info.IsDir():
			return s.add(n, name, entry{path: to, dir: true, perm: info.Mode().Perm(), modified: info.ModTime()})
		case !info.Mode().IsRegular() || checkPart(d.Name()) != "" && filepath.Ext(d.Name()) == partialSuffix:
			if len(s.Skipped) < maxSkipped {
				s.Skipped = append(s.Skipped, to)
			}
			return nil
		default:
			return s.addFile(n, name, to, info)
		}
	})
}

func (s *Source) addFile(root int32, name, to string, info fs.FileInfo) error {
	// Whether it can be read shows now, and not in the middle of the transfer.
	f, err := s.roots[root].Open(name)
	if err != nil {
		return fmt.Errorf("transfer: %w", err)
	}
	_ = f.Close()
	return s.add(root, name, entry{path: to, perm: info.Mode().Perm(), modified: info.ModTime(), size: info.Size()})
}

func (s *Source) add(root int32, name string, e entry) error {
	if err := s.manifest.add(e); err != nil {
		return err
	}
	s.places = append(s.places, place{root: root, name: name})
	return nil
}

// openEntry opens the file of an entry, which must be as it was listed.
func (s *Source) openEntry(i uint32) (*os.File, error) {
	e, at := s.manifest.entries[i], s.places[i]
	info, err := s.roots[at.root].Lstat(at.name)
	if err == nil && !e.same(info) {
		return nil, fmt.Errorf("%w: %q", ErrChanged, e.path)
	}
	if err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	f, err := s.roots[at.root].Open(at.name)
	if err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	if opened, err := f.Stat(); err != nil || !os.SameFile(info, opened) {
		_ = f.Close()
		return nil, fmt.Errorf("%w: %q", ErrChanged, e.path)
	}
	return f, nil
}

// same reports whether info is of the file that was listed.
func (e *entry) same(info fs.FileInfo) bool {
	return info.Mode().IsRegular() && info.Size() == e.size && info.ModTime().Equal(e.modified)
}

// appendEntries appends the manifest's entries from index i on to the payload of one
// ENTRIES frame, and returns the index of the first that did not fit.
func (m *manifest) appendEntries(b []byte, i int) ([]byte, int) {
	const spare = wire.MaxPath + 64 // of the largest entry
	for ; i < len(m.entries) && len(b) < wire.MaxList-spare; i++ {
		e := &m.entries[i]
		b = wire.AppendEntry(b, wire.Entry{
			Dir: e.dir, Perm: uint32(e.perm), Modified: e.modified.Unix(),
			Size: uint64(e.size), Path: e.path,
		})
	}
	return b, i
}

// fromWire is an entry as it came.
func fromWire(e wire.Entry) entry {
	return entry{
		path: e.Path, dir: e.Dir, perm: fs.FileMode(e.Perm), size: int64(e.Size),
		modified: time.Unix(min(max(e.Modified, -maxTime), maxTime), 0),
	}
}

// maxTime is a time that every file system can hold or round: the year 2106.
const maxTime = 1 << 32
