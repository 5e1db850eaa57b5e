package wire

import (
	"encoding/binary"
	"fmt"
)

// A Total is the payload of OFFER: what ENTRIES add up to.
type Total struct {
	Files, Dirs uint64
	Bytes       uint64
}

// Kinds of entries.
const (
	KindDir  = 0
	KindFile = 1
)

// An Entry is one file or directory. Its path is relative, with slashes; the
// parser bounds its length and nothing else, package transfer judges it.
type Entry struct {
	Dir      bool
	Perm     uint32 // at most MaxPerm
	Modified int64  // Unix seconds
	Size     uint64 // at most MaxSize; 0 for a directory
	Path     string
}

// A Span is the payload of FILE, ASK and an element of WANT: a place in, or
// the first bytes of, the file of that index.
type Span struct {
	Index  uint32
	Offset uint64
}

// AppendTotal appends the payload of OFFER.
func AppendTotal(b []byte, t Total) []byte {
	b = binary.AppendUvarint(b, t.Files)
	b = binary.AppendUvarint(b, t.Dirs)
	return binary.AppendUvarint(b, t.Bytes)
}

// ParseTotal reads the payload of OFFER.
func ParseTotal(b []byte) (Total, error) {
	p := parser{b: b}
	t := Total{Files: p.uvarint(maxIndex), Dirs: p.uvarint(maxIndex), Bytes: p.uvarint(MaxSize)}
	return t, p.end("OFFER")
}

// AppendEntry appends one element of ENTRIES.
func AppendEntry(b []byte, e Entry) []byte {
	kind := byte(KindFile)
	if e.Dir {
		kind = KindDir
	}
	b = append(b, kind)
	b = binary.AppendUvarint(b, uint64(e.Perm))
	b = binary.AppendVarint(b, e.Modified)
	b = binary.AppendUvarint(b, e.Size)
	b = binary.AppendUvarint(b, uint64(len(e.Path)))
	return append(b, e.Path...)
}

// ParseEntries calls yield for each entry of an ENTRIES frame, until yield
// returns an error, which it returns.
func ParseEntries(b []byte, yield func(Entry) error) error {
	p := parser{b: b}
	for len(p.b) > 0 {
		kind := p.byte()
		e := Entry{
			Dir:      kind == KindDir,
			Perm:     uint32(p.uvarint(MaxPerm)),
			Modified: p.varint(),
			Size:     p.uvarint(MaxSize),
		}
		e.Path = string(p.take(int(p.uvarint(MaxPath))))
		if p.bad || kind > KindFile || e.Dir && e.Size != 0 {
			return fmt.Errorf("%w: ENTRIES", ErrFrame)
		}
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}

// AppendSpan appends the payload of FILE or ASK, or one element of WANT.
func AppendSpan(b []byte, s Span) []byte {
	b = binary.AppendUvarint(b, uint64(s.Index))
	return binary.AppendUvarint(b, s.Offset)
}

// ParseSpan reads the payload of FILE or ASK.
func ParseSpan(b []byte) (Span, error) {
	p := parser{b: b}
	s := p.span()
	return s, p.end("FILE or ASK")
}

// ParseSpans calls yield for each element of a WANT frame, until yield
// returns an error, which it returns.
func ParseSpans(b []byte, yield func(Span) error) error {
	p := parser{b: b}
	for len(p.b) > 0 {
		s := p.span()
		if p.bad {
			return fmt.Errorf("%w: WANT", ErrFrame)
		}
		if err := yield(s); err != nil {
			return err
		}
	}
	return nil
}

// AppendSum appends the payload of SUM.
func AppendSum(b []byte, index uint32, sum [HashSize]byte) []byte {
	return append(binary.AppendUvarint(b, uint64(index)), sum[:]...)
}

// ParseSum reads the payload of SUM.
func ParseSum(b []byte) (index uint32, sum [HashSize]byte, err error) {
	p := parser{b: b}
	index = uint32(p.uvarint(maxIndex))
	copy(sum[:], p.take(HashSize))
	return index, sum, p.end("SUM")
}

// ParseEnd reads the payload of END.
func ParseEnd(b []byte) (sum [HashSize]byte, err error) {
	p := parser{b: b}
	copy(sum[:], p.take(HashSize))
	return sum, p.end("END")
}

// A Code says what ended a transfer.
type Code byte

// Codes of ERROR. The numbers are on the wire; an unknown one is read as Other.
const (
	Other     Code = 0 // see the text
	Refused   Code = 1 // the person or the program said no
	Exists    Code = 2 // a file is there already
	Integrity Code = 3 // what came is not what was sent
	Local     Code = 4 // the disk is full, a file cannot be read or written
	Changed   Code = 5 // a file changed while it was sent
	Protocol  Code = 6 // a frame that is not allowed
	Limit     Code = 7 // too many entries, too long a path, too much
	Canceled  Code = 8 // interrupted
	Name      Code = 9 // a name that is not taken

	lastCode = Name
)

// AppendError appends the payload of ERROR; the text is cut to MaxText bytes.
func AppendError(b []byte, c Code, text string) []byte {
	return append(append(b, byte(c)), text[:min(len(text), MaxText)]...)
}

// ParseError reads the payload of ERROR. The text is a stranger's: package
// transfer cleans it before it is shown.
func ParseError(b []byte) (Code, string, error) {
	if len(b) == 0 || len(b) > 1+MaxText {
		return 0, "", fmt.Errorf("%w: ERROR", ErrFrame)
	}
	c := Code(b[0])
	if c > lastCode {
		c = Other
	}
	return c, string(b[1:]), nil
}

// A parser takes values from its front; once one is malformed it is bad, and
// gives zeroes.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) take(n int) []byte {
	if p.bad || n > len(p.b) {
		p.bad = true
		return nil
	}
	v := p.b[:n]
	p.b = p.b[n:]
	return v
}

func (p *parser) byte() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

// uvarint takes a number of at most limit, in its shortest form.
func (p *parser) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(p.b)
	if p.bad || n <= 0 || v > limit || n > 1 && p.b[n-1] == 0 {
		p.bad = true
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) varint() int64 {
	v, n := binary.Varint(p.b)
	if p.bad || n <= 0 || n > 1 && p.b[n-1] == 0 {
		p.bad = true
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) span() Span {
	return Span{Index: uint32(p.uvarint(maxIndex)), Offset: p.uvarint(MaxSize)}
}

// end reports whether all was there, and nothing else.
func (p *parser) end(frame string) error {
	if p.bad || len(p.b) > 0 {
		return fmt.Errorf("%w: %s", ErrFrame, frame)
	}
	return nil
}
