package enr

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

const textPrefix = "enr:"

// maxTextSize is MaxSize in base64 without padding, and the prefix.
const maxTextSize = len(textPrefix) + (MaxSize*8+5)/6

// ErrText is returned by ParseText for what is not the text form.
var ErrText = errors.New("enr: not the text form of a record")

// strictText refuses non-zero bits after the last byte. It skips line breaks
// all the same, so ParseText looks for them itself.
var strictText = base64.RawURLEncoding.Strict()

// String returns the text form: "the base64 encoding of its RLP
// representation, prefixed by enr:", URL-safe and without padding.
func (r *Record) String() string {
	b := make([]byte, len(textPrefix)+strictText.EncodedLen(len(r.raw)))
	copy(b, textPrefix)
	strictText.Encode(b[len(textPrefix):], r.raw)
	return string(b)
}

// MarshalText implements [encoding.TextMarshaler].
func (r *Record) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// ParseText reads the text form of a record and verifies its signature. It
// accepts exactly what String writes, so that equal records have equal text:
// no padding, no space, no line break, no other alphabet.
func ParseText(s string) (*Record, error) {
	if len(s) > maxTextSize {
		return nil, ErrTooLarge
	}
	body, ok := strings.CutPrefix(s, textPrefix)
	if !ok {
		return nil, fmt.Errorf("%w: no %q in front", ErrText, textPrefix)
	}
	if strings.ContainsAny(body, "\r\n") {
		return nil, fmt.Errorf("%w: a line break", ErrText)
	}
	b, err := strictText.DecodeString(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrText, err)
	}
	return Parse(b)
}
