package transfer

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
)

// A disk is the directory that a receiver writes to. Every name goes through
// its root, which lets none out.
type disk struct {
	root  *os.Root
	umask fs.FileMode
	folds bool         // the file system takes names that differ in case for one
	stop  func() error // why hashing is to end early, or nil
	hooks testHooks
}

// openDisk opens dir, made if missing, and finds out what it is like.
func openDisk(dir string) (*disk, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	d := &disk{root: root}
	if err := d.probe(); err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("transfer: %w", err)
	}
	return d, nil
}

// probe makes a file and looks at it: what the umask took off, and whether it
// has another name too. It also shows at once whether we may write here.
func (d *disk) probe() error {
	name := partialName("probe-" + strings.ToLower(rand.Text()))
	f, err := d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o777)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		d.umask = 0o777 &^ info.Mode().Perm()
		other, err := d.root.Lstat(strings.ToUpper(name))
		d.folds = err == nil && os.SameFile(info, other)
	}
	return errors.Join(err, f.Close(), d.root.Remove(name))
}

func (d *disk) Close() error { return d.root.Close() }

// What preflight finds where an entry is to be.
type presence int

const (
	absent  presence = iota
	ready            // a directory, as wanted
	maybe            // a file of the right size: its content decides
	differs          // a file with other content
	blocked          // something that no flag replaces: a directory for a file, a file for a directory
)

// look says what is at e's place. missing are directories that are not there,
// so that nothing can be in them; such a directory is added.
func (d *disk) look(e *entry, missing map[string]bool) (presence, error) {
	if missing[path.Dir(e.path)] {
		if e.dir {
			missing[e.path] = true
		}
		return absent, nil
	}
	info, err := d.root.Lstat(e.path)
	if e.dir && (err != nil || !info.IsDir()) {
		missing[e.path] = true
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return absent, nil
	case err != nil:
		return 0, fmt.Errorf("transfer: %w", err)
	case e.dir && info.IsDir():
		return ready, nil
	case e.dir || info.IsDir():
		return blocked, nil
	case info.Mode().IsRegular() && info.Size() == e.size:
		return maybe, nil
	default:
		return differs, nil
	}
}

// hashFile is the SHA-256 of the first n bytes of a regular file; ok is false
// if it has fewer or is none.
func (d *disk) hashFile(name string, n int64) (sum [sha256.Size]byte, ok bool, err error) {
	f, err := d.openRegular(name, os.O_RDONLY)
	if err != nil {
		return sum, false, err
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := hashPrefix(f, n, d.stop)
	if h != nil {
		h.Sum(sum[:0])
	}
	return sum, h != nil, err
}

// hashPrefix hashes the first n bytes of f; it returns nil if there are fewer.
// That may take minutes: it ends with the error of stop as soon as there is one.
func hashPrefix(f *os.File, n int64, stop func() error) (hash.Hash, error) {
	h := sha256.New()
	in := stoppable{io.NewSectionReader(f, 0, n), stop}
	got, err := io.CopyBuffer(onlyWriter{h}, in, make([]byte, chunk))
	if cut := stop(); cut != nil {
		return nil, cut
	}
	if err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	if got < n {
		return nil, nil //nolint:nilnil // documented
	}
	return h, nil
}

// A stoppable reader fails with the error of stop.
type stoppable struct {
	from io.Reader
	stop func() error
}

func (r stoppable) Read(b []byte) (int, error) {
	if err := r.stop(); err != nil {
		return 0, err
	}
	return r.from.Read(b)
}

// io.CopyBuffer uses its buffer only if neither end knows better.
type onlyWriter struct{ io.Writer }

// openRegular opens a file that must not be a link or a device.
func (d *disk) openRegular(name string, flag int) (*os.File, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("transfer: %q is not a regular file", name)
	}
	f, err := d.root.OpenFile(name, flag, 0)
	if err != nil {
		return nil, fmt.Errorf("transfer: %w", err)
	}
	if opened, err := f.Stat(); err != nil || !os.SameFile(info, opened) {
		_ = f.Close()
		return nil, fmt.Errorf("transfer: %q was replaced", name)
	}
	return f, nil
}

// mkdir makes e's directory. One that is there already is left as it is.
func (d *disk) mkdir(e *entry) error {
	err := d.root.Mkdir(e.path, e.perm|0o700)
	if errors.Is(err, fs.ErrExist) {
		if info, err := d.root.Lstat(e.path); err == nil && info.IsDir() {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("transfer: %w", err)
	}
	return nil
}

// A partial is the incomplete file of an entry. It is locked, so that no two
// transfers write it at once.
type partial struct {
	disk *disk
	e    *entry
	name string
	f    *os.File
	at   int64
	hole bool // the end of the file is not written yet
}

func (e *entry) partial() string {
	dir, name := path.Split(e.path)
	return dir + partialName(name)
}

// openPartial opens what is there of e, or returns nil if there is nothing.
func (d *disk) openPartial(e *entry) (*partial, error) {
	name := e.partial()
	f, err := d.openRegular(name, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // documented
	}
	if err != nil {
		return nil, err
	}
	return d.own(e, name, f)
}

// newPartial begins e anew. Whatever has the name of its partial is removed.
func (d *disk) newPartial(e *entry) (*partial, error) {
	name := e.partial()
	for {
		f, err := d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err == nil {
			return d.own(e, name, f)
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("transfer: %w", err)
		}
		old, err := d.openPartial(e)
		if err == nil && old != nil { // ours: its lock says that nobody writes it
			return old, old.truncate(0)
		}
		if errors.Is(err, errLocked) {
			return nil, err
		}
		if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("transfer: %w", err)
		}
	}
}

var errLocked = errors.New("transfer: another transfer is writing the same file")

func (d *disk) own(e *entry, name string, f *os.File) (*partial, error) {
	err := lockFile(f)
	if err == nil {
		err = d.stillThere(name, f)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%w: %q", err, e.path)
	}
	return &partial{disk: d, e: e, name: name, f: f}, nil
}

// stillThere returns errLocked if the file lost its name before it was locked:
// another transfer has finished it.
func (d *disk) stillThere(name string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if named, err := d.root.Lstat(name); err != nil || !os.SameFile(info, named) {
		return errLocked
	}
	return nil
}

func (p *partial) size() int64 {
	info, err := p.f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// truncate makes the partial end at n, where writing goes on.
func (p *partial) truncate(n int64) error {
	p.at, p.hole = n, false
	if err := p.f.Truncate(n); err != nil {
		return fmt.Errorf("transfer: %w", err)
	}
	return nil
}

// write appends b. Zeroes are not written: they become a hole.
func (p *partial) write(b []byte) error {
	if len(b) >= minHole && zero(b) {
		p.at += int64(len(b))
		p.hole = true
		return nil
	}
	write := (*os.File).WriteAt
	if p.disk.hooks.write != nil {
		write = p.disk.hooks.write
	}
	n, err := write(p.f, b, p.at)
	p.at += int64(n)
	p.hole = false
	if err != nil {
		return fmt.Errorf("transfer: %w", err)
	}
	return nil
}

// minHole is the least that is worth a hole: a few blocks of a file system.
const minHole = 64 << 10

var zeroes [4096]byte

func zero(b []byte) bool {
	for len(b) > len(zeroes) {
		if !bytes.Equal(b[:len(zeroes)], zeroes[:]) {
			return false
		}
		b = b[len(zeroes):]
	}
	return bytes.Equal(b, zeroes[:len(b)])
}

// keep closes the partial for a later transfer to go on with.
func (p *partial) keep() error {
	var err error
	if p.hole {
		err = p.f.Truncate(p.at)
	}
	return errors.Join(err, p.f.Close())
}

// discard removes the partial.
func (p *partial) discard() {
	_ = p.f.Close()
	_ = p.disk.root.Remove(p.name)
}

// finish gives the complete, verified content its name: on disk first, named
// after. With replace, what has the name is replaced; else the error wraps
// [fs.ErrExist] if there is something.
func (p *partial) finish(replace bool) error {
	defer p.f.Close() //nolint:errcheck // synced before; the lock lasts until the name is given
	if err := p.settle(); err != nil {
		return fmt.Errorf("transfer: %w", err)
	}
	root := p.disk.root
	if replace {
		if err := root.Rename(p.name, p.e.path); err != nil {
			return fmt.Errorf("transfer: %w", err)
		}
		return nil
	}
	// A link fails where the name is taken, a rename would not.
	err := root.Link(p.name, p.e.path)
	switch {
	case err == nil:
		err = root.Remove(p.name)
	case errors.Is(err, fs.ErrExist):
		return &ExistsError{Paths: []string{p.e.path}}
	default: // a file system without links
		if _, there := root.Lstat(p.e.path); there == nil {
			return &ExistsError{Paths: []string{p.e.path}}
		}
		err = root.Rename(p.name, p.e.path)
	}
	if err != nil {
		return fmt.Errorf("transfer: %w", err)
	}
	return nil
}

// settle brings content, permission and time to the disk.
func (p *partial) settle() error {
	err := p.f.Truncate(p.e.size)
	if runtime.GOOS != "windows" { // there, only one bit of it would be kept
		err = errors.Join(err, p.f.Chmod((p.e.perm|0o600)&0o777&^p.disk.umask))
	}
	err = errors.Join(err, p.f.Sync())
	if runtime.GOOS == "windows" { // where an open file cannot be renamed
		err = errors.Join(err, p.f.Close())
	}
	if err != nil {
		return err
	}
	return p.disk.root.Chtimes(p.name, p.e.modified, p.e.modified)
}

// syncDirs makes the names in the given directories last. Systems that cannot
// sync a directory do it on their own.
func (d *disk) syncDirs(dirs map[string]bool) {
	for dir := range dirs {
		if f, err := d.root.Open(dir); err == nil {
			_ = f.Sync()
			_ = f.Close()
		}
	}
}

func short(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:8]) }
