package transfer

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/muster-p2p/muster/transfer/wire"
)

// Errors of [Send] and [Receive], besides [*NameError], [*LimitError],
// [*ExistsError] and [*RemoteError]. An error of the file system is returned
// as it is, wrapped: [syscall.ENOSPC] can be told by [errors.Is].
var (
	// ErrRefused: the receiver did not want what was offered.
	ErrRefused = errors.New("transfer: refused by the receiver")

	// ErrIntegrity: what came is not what the sender read.
	ErrIntegrity = errors.New("transfer: the content that came is not what was sent")

	// ErrChanged: a file changed between being listed and being sent.
	ErrChanged = errors.New("transfer: a file changed while it was sent")

	// ErrProtocol: the other end broke the rules, or speaks another protocol.
	ErrProtocol = errors.New("transfer: the other end broke the protocol")

	// ErrSameRole: both ends send, or both receive.
	ErrSameRole = errors.New("transfer: both ends do the same: one must send and one receive")

	// ErrBroken: the stream ended before the transfer did. Sending the same
	// files again to the same directory goes on where it ended.
	ErrBroken = errors.New("transfer: the connection broke")
)

// maxNamed bounds how many paths an error names.
const maxNamed = 8

// An ExistsError names what is there already and must not be overwritten.
type ExistsError struct {
	Paths []string // the first ones
	More  int      // how many others
}

func (e *ExistsError) add(path string) {
	if len(e.Paths) < maxNamed {
		e.Paths = append(e.Paths, path)
	} else {
		e.More++
	}
}

func (e *ExistsError) Error() string {
	var b strings.Builder
	b.WriteString("transfer: there already:")
	for _, p := range e.Paths {
		fmt.Fprintf(&b, " %q", p)
	}
	if e.More > 0 {
		fmt.Fprintf(&b, " and %d more", e.More)
	}
	return b.String()
}

// A RemoteError is what the other end says went wrong there.
// [ErrRefused], [ErrIntegrity] and [ErrChanged] can be told by [errors.Is].
type RemoteError struct {
	Code wire.Code
	Text string // cleaned: one line, without control characters
}

func (e *RemoteError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("transfer: the other end gave up (code %d)", e.Code)
	}
	return "transfer: the other end says: " + e.Text
}

// Is makes a remote error the local one of the same meaning.
func (e *RemoteError) Is(target error) bool {
	switch e.Code {
	case wire.Refused:
		return target == ErrRefused
	case wire.Integrity:
		return target == ErrIntegrity
	case wire.Changed:
		return target == ErrChanged
	default:
		return false
	}
}

// parseRemote reads the payload of an ERROR.
func parseRemote(b []byte) error {
	code, text, err := wire.ParseError(b)
	if err != nil {
		return err
	}
	return &RemoteError{Code: code, Text: clean(text)}
}

// clean makes a stranger's text fit for a terminal.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || deceives(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?")))
}

// codeOf is what the other end is told about err, and whether it is told the
// text as well: that of a local error may have paths in it, which are nobody's
// business.
func codeOf(err error) (c wire.Code, text string) {
	text = strings.TrimPrefix(err.Error(), "transfer: ")
	var exists *ExistsError
	var name *NameError
	var limit *LimitError
	switch {
	case errors.Is(err, ErrRefused):
		return wire.Refused, "refused"
	case errors.Is(err, ErrIntegrity):
		return wire.Integrity, text
	case errors.Is(err, ErrChanged):
		return wire.Changed, text
	case errors.As(err, &exists):
		return wire.Exists, text
	case errors.As(err, &name):
		return wire.Name, text
	case errors.As(err, &limit):
		return wire.Limit, text
	case errors.Is(err, ErrProtocol):
		return wire.Protocol, text
	case canceled(err):
		return wire.Canceled, "interrupted"
	default:
		return wire.Local, localText(err)
	}
}
