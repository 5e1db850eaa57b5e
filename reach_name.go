package muster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/rendezvous"
)

// MaxName bounds a peer's name in bytes, as in a domain's label.
const MaxName = 63

// Errors of names.
var (
	// ErrNotFound says that nobody is registered under the name.
	ErrNotFound = errors.New("muster: nobody has that name")

	// ErrAmbiguous says that several peers are registered under the name. At a
	// point where everybody may register, a name is what its holders say;
	// only a peer ID is proved.
	ErrAmbiguous = errors.New("muster: several peers have that name")
)

// A Name is what a peer is called in a namespace. It is written NS/NAME.
type Name struct {
	Namespace string // any of rendezvous, may have slashes
	Peer      string // 1 to MaxName bytes; see ParseName
}

// String returns NS/NAME, which is also the namespace that the peer registers
// under beside its Namespace, so that one DISCOVER finds it.
func (n Name) String() string { return n.Namespace + "/" + n.Peer }

// Registrations returns the namespaces to register under in order to have the
// name, and to be seen by those who list its namespace.
func (n Name) Registrations() []string { return []string{n.Namespace, n.String()} }

// ParseName reads NS/NAME; the last slash divides. A peer's name is 1 to
// MaxName bytes of UTF-8 without "/", ":", "@", blanks and control characters:
// the first would make it two, the others are needed to write a service or a
// peer behind it.
func ParseName(s string) (Name, error) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return Name{}, fmt.Errorf("muster: %q is not NAMESPACE/NAME", s)
	}
	n := Name{s[:i], s[i+1:]}
	return n, n.Validate()
}

// Validate returns an error if the name cannot be registered.
func (n Name) Validate() error {
	switch {
	case n.Namespace == "" || len(n.String()) > rendezvous.MaxNamespace || !utf8.ValidString(n.Namespace):
		return fmt.Errorf("muster: a namespace is 1 to %d bytes of UTF-8, the name and a slash included", rendezvous.MaxNamespace)
	case n.Peer == "" || len(n.Peer) > MaxName || !utf8.ValidString(n.Peer):
		return fmt.Errorf("muster: a name is 1 to %d bytes of UTF-8", MaxName)
	case strings.ContainsFunc(n.Peer, func(r rune) bool {
		return strings.ContainsRune("/:@", r) || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}):
		return errors.New("muster: a name has no '/', ':', '@', blanks or control characters")
	}
	return nil
}

// Of a name that several points are asked for, the ones that have not answered
// yet get this long once one has: one of them may be dead, one may not know.
const (
	secondOpinion = 300 * time.Millisecond // when there is somebody
	lastHope      = time.Second            // when there is nobody
)

// maxNamesakes bounds the peers of one name that are looked at.
const maxNamesakes = 8

// An opinion is what one point knows of a name.
type opinion struct {
	ids []peer.ID
	err error
}

// gather returns the one peer that n of the sources know by a name.
func gather(ctx context.Context, name Name, n int, opinions <-chan opinion) (peer.ID, error) {
	var ids []peer.ID
	var errs []error
	var patience <-chan time.Time
	for range n {
		select {
		case o := <-opinions:
			for _, id := range o.ids {
				if !slices.Contains(ids, id) {
					ids = append(ids, id)
				}
			}
			switch {
			case o.err != nil:
				errs = append(errs, o.err)
			case len(ids) > 0:
				patience = time.After(secondOpinion)
			case patience == nil:
				patience = time.After(lastHope)
			}
			continue
		case <-patience:
		case <-ctx.Done():
			return "", ctx.Err()
		}
		break
	}
	if len(ids) == 0 && len(errs) == n {
		return "", errors.Join(errs...)
	}
	return single(name, ids)
}

// askPoints asks all points for a name at once.
func (r *Reach) askPoints(ctx context.Context, name Name) (peer.ID, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opinions := make(chan opinion, len(r.cfg.Points))
	for _, p := range r.cfg.Points {
		go func() {
			page, err := r.names.Discover(ctx, p.ID, name.String(), rendezvous.Query{Limit: maxNamesakes})
			o := opinion{err: err}
			for _, found := range page.Records {
				o.ids = append(o.ids, found.ID)
			}
			opinions <- o
		}()
	}
	return gather(ctx, name, len(r.cfg.Points), opinions)
}

// askFinder asks a finder for a name.
func askFinder(ctx context.Context, d discovery.Discoverer, name Name) (peer.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, rendezvous.DefaultTimeout)
	defer cancel()
	found, err := d.FindPeers(ctx, name.String(), discovery.Limit(maxNamesakes))
	if err != nil {
		return "", err
	}
	var ids []peer.ID
	for pi := range found {
		ids = append(ids, pi.ID)
	}
	if len(ids) == 0 && ctx.Err() != nil {
		return "", ctx.Err()
	}
	return single(name, ids)
}

func single(n Name, ids []peer.ID) (peer.ID, error) {
	switch len(ids) {
	case 0:
		return "", fmt.Errorf("%w: %s", ErrNotFound, n)
	case 1:
		return ids[0], nil
	default:
		names := make([]string, len(ids))
		for i, id := range ids {
			names[i] = id.String()
		}
		return "", fmt.Errorf("%w: %s is %s", ErrAmbiguous, n, strings.Join(names, ", "))
	}
}
