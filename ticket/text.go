package ticket

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf8"
)

// Prefix begins the text of every ticket of this version.
const Prefix = name + version

const (
	name    = "muster"
	version = "1"

	// maxPasted bounds what Parse looks at: a ticket with the white space that a
	// mail or a terminal has put into it.
	maxPasted = 4 * MaxText
)

// Errors of [Parse]; [ErrTooLong] is one of [Ticket.Encode] as well. Each says
// what to do about it.
var (
	ErrNotTicket = errors.New("ticket: this is not a ticket, which begins with " + Prefix + " (the digit one)")
	ErrTypo      = errors.New("ticket: a letter is wrong or missing: copy the ticket again, from " + Prefix + " to its end")
	ErrVersion   = errors.New("ticket: this ticket is of a newer muster: update this one")
	ErrMalformed = errors.New("ticket: nothing is missing, but it makes no sense: ask for a new one")
	ErrTooLong   = fmt.Errorf("ticket: longer than %d characters", MaxText)
)

var encoding = base32.NewEncoding(alphabet32).WithPadding(base32.NoPadding)

func encodeText(b []byte) string { return Prefix + encoding.EncodeToString(b) }

// Is reports whether s looks like a ticket, of whatever version: it tells a
// ticket from a name or a peer ID, where an argument may be either.
func Is(s string) bool {
	s = strings.TrimSpace(s)
	_, _, ok := cutPrefix(lower(s[:min(len(s), len(Prefix))]))
	return ok
}

// Parse reads the text of a ticket: small letters or capitals, with or without
// white space around and in it. The error is, or wraps, [ErrNotTicket],
// [ErrTypo], [ErrMalformed], [ErrVersion] or [ErrTooLong]. Nothing but what [Ticket.Encode]
// writes is accepted, so that a ticket has one text.
func Parse(s string) (Ticket, error) {
	if len(s) > maxPasted {
		return Ticket{}, notTicket(s)
	}
	s = lower(strings.Join(strings.Fields(s), ""))
	v, body, ok := cutPrefix(s)
	switch {
	case !ok:
		return Ticket{}, ErrNotTicket
	case v != version:
		return Ticket{}, ErrVersion
	case len(s) > MaxText:
		return Ticket{}, ErrTooLong
	}
	if i := strings.IndexFunc(body, notOfAlphabet); i >= 0 {
		c, _ := utf8.DecodeRuneInString(body[i:])
		return Ticket{}, fmt.Errorf("%w (%q, character %d, is in no ticket: there are a to z and 2 to 7)", ErrTypo, c, len(Prefix)+i+1)
	}
	b, err := encoding.DecodeString(body)
	if err != nil || len(b) <= checksumSize || encodeText(b) != s || !checksumRight(b) {
		return Ticket{}, ErrTypo
	}
	t, err := parseBinary(b)
	if err != nil {
		return Ticket{}, fmt.Errorf("%w (%w)", ErrMalformed, err)
	}
	return t, nil
}

func notTicket(s string) error {
	if Is(s) {
		return ErrTooLong
	}
	return ErrNotTicket
}

// cutPrefix splits the text of a ticket of any version: it is the one digit
// behind the name.
func cutPrefix(s string) (v, body string, ok bool) {
	rest, ok := strings.CutPrefix(s, name)
	if !ok || rest == "" || rest[0] < '1' || rest[0] > '9' {
		return "", "", false
	}
	return rest[:1], rest[1:], true
}

// lower is strings.ToLower for ASCII: no other letter turns into one of ours.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func notOfAlphabet(c rune) bool { return !strings.ContainsRune(alphabet32, c) }

func checksumRight(b []byte) bool {
	body, sum := b[:len(b)-checksumSize], b[len(b)-checksumSize:]
	return crc32.Checksum(body, castagnoli) == binary.BigEndian.Uint32(sum)
}
