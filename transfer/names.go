package transfer

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/muster-p2p/muster/transfer/wire"
)

// Bounds of names.
const (
	// MaxName bounds a component of a path, in bytes: NAME_MAX of Linux and macOS.
	MaxName = 255

	// MaxDepth bounds the components of a path: deeper than any tree that
	// people keep, shallow enough for every file system.
	MaxDepth = 128
)

// partialSuffix ends the name of a file that is not complete. A sender may not
// use it, so that it cannot reach another file's partial.
const partialSuffix = ".muster-part"

// A NameError says why a name is not taken.
type NameError struct {
	Path string // as it came; print it with %q only
	Why  string
}

func (e *NameError) Error() string { return fmt.Sprintf("transfer: name %q %s", e.Path, e.Why) }

// checkPath refuses a path that could leave the directory it is written to,
// that means something else than a file there, or that deceives the eye.
// windows adds the rules of that system: there, a colon begins a stream and
// NUL is a device in every directory. Elsewhere such names are names.
func checkPath(path string, windows bool) error {
	no := func(why string) error { return &NameError{Path: path, Why: why} }
	switch {
	case path == "":
		return no("is empty")
	case len(path) > wire.MaxPath:
		return &NameError{Path: path[:MaxName], Why: fmt.Sprintf("has %d bytes, more than %d", len(path), wire.MaxPath)}
	case !utf8.ValidString(path):
		return no("is not UTF-8")
	case path[0] == '/':
		return no("is absolute")
	case len(path) > 1 && path[1] == ':' && isLetter(path[0]):
		return no("begins with a drive letter")
	case strings.Count(path, "/") >= MaxDepth:
		return no(fmt.Sprintf("has more than %d parts", MaxDepth))
	}
	for part := range strings.SplitSeq(path, "/") {
		why := checkPart(part)
		if why == "" && windows {
			why = checkWindowsPart(part)
		}
		if why != "" {
			return no(why)
		}
	}
	return nil
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// checkPart says what is wrong with one component, on every system.
func checkPart(part string) string {
	switch {
	case part == "":
		return "has an empty part"
	case part == "." || part == "..":
		return "has " + part + " as a part"
	case len(part) > MaxName:
		return fmt.Sprintf("has a part of %d bytes, more than %d", len(part), MaxName)
	case strings.ContainsRune(part, '\\'):
		return "has a backslash, which separates parts on other systems"
	case strings.ContainsFunc(part, unicode.IsControl):
		return "has a control character"
	case strings.ContainsFunc(part, deceives):
		return "has a character that changes the order of letters"
	case strings.HasSuffix(strings.ToLower(part), partialSuffix):
		return "ends with " + partialSuffix + ", which is for incomplete files"
	default:
		return ""
	}
}

// deceives reports whether c makes text look like other text: the explicit
// embeddings, overrides and isolates of Unicode's bidirectional algorithm
// (UAX #9, section 2), and the line and paragraph separators. The marks and
// joiners that Arabic, Hebrew, Persian and emoji need are not among them.
func deceives(c rune) bool {
	return '\u202a' <= c && c <= '\u202e' || '\u2066' <= c && c <= '\u2069' || c == '\u2028' || c == '\u2029'
}

// checkWindowsPart says what is wrong with one component on Windows.
// https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file#naming-conventions
func checkWindowsPart(part string) string {
	if i := strings.IndexAny(part, `<>:"|?*`); i >= 0 {
		return fmt.Sprintf("has %q, which is not for names on Windows", part[i])
	}
	if last := part[len(part)-1]; last == '.' || last == ' ' {
		return "ends with a dot or a space, which Windows takes off"
	}
	stem, _, _ := strings.Cut(part, ".")
	if reservedDevice(strings.ToUpper(strings.TrimRight(stem, " "))) {
		return "is a device on Windows"
	}
	return ""
}

func reservedDevice(s string) bool {
	switch s {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	for _, port := range []string{"COM", "LPT"} {
		// The superscripts are digits of ports too.
		if n, ok := strings.CutPrefix(s, port); ok && (len(n) == 1 && '0' <= n[0] && n[0] <= '9' || n == "¹" || n == "²" || n == "³") {
			return true
		}
	}
	return false
}

// foldPath is equal for paths that a file system which ignores case, or the
// composition of letters, takes for the same.
func foldPath(path string) string {
	return norm.NFC.String(strings.ToLower(strings.ToUpper(norm.NFC.String(path))))
}

// partialName is the name of the incomplete file of name: hidden, next to it,
// and never longer than a name may be. A long name is cut, and told from other
// long names by its hash.
func partialName(name string) string {
	const hashDigits = 16
	if len(name)+1+len(partialSuffix) <= MaxName {
		return "." + name + partialSuffix
	}
	sum := sha256.Sum256([]byte(name))
	for len(name) > MaxName-hashDigits-len("..")-len(partialSuffix) {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	return fmt.Sprintf(".%s.%x%s", name, sum[:hashDigits/2], partialSuffix)
}
