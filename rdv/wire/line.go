package wire

import (
	"bytes"
	"net/netip"
	"net/url"
)

// A Hello is the first line on a direct connection. Each side writes its own
// method and expects the other one.
type Hello struct {
	Method string // Dial or Accept
	Token  string // the token of the request, or a proof of it; not empty
}

// AppendTo appends the line to b. The token is path-escaped, so that any
// string is one word.
func (h Hello) AppendTo(b []byte) []byte {
	b = append(b, Protocol+" "...)
	b = append(b, h.Method...)
	b = append(b, ' ')
	b = append(b, url.PathEscape(h.Token)...)
	return append(b, '\n')
}

// ParseHello parses one line with its line feed; a carriage return before it
// is tolerated. It returns [ErrLine], [ErrMethod] or [ErrToken].
func ParseHello(line []byte) (Hello, error) {
	text, ok := cutLine(line)
	if !ok {
		return Hello{}, ErrLine
	}
	rest, ok := bytes.CutPrefix(text, []byte(Protocol+" "))
	if !ok {
		return Hello{}, ErrLine
	}
	method, escaped, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return Hello{}, ErrLine
	}
	if Other(string(method)) == "" {
		return Hello{}, ErrMethod
	}
	token, err := url.PathUnescape(string(escaped))
	if err != nil || token == "" || bytes.ContainsAny(escaped, " \t\r\n") {
		return Hello{}, ErrToken
	}
	return Hello{Method: string(method), Token: token}, nil
}

// A Command is what the dialer tells of its choice: on the connection that it
// picked, the zero Command, CONTINUE; on the relay that it did not pick, OTHER
// with the address of the peer on the connection that it did.
type Command struct {
	Other netip.AddrPort // valid: OTHER; zero: CONTINUE
}

const (
	continueLine = "CONTINUE"
	otherPrefix  = "OTHER "
)

// AppendTo appends the line to b.
func (c Command) AppendTo(b []byte) []byte {
	if !c.Other.IsValid() {
		return append(b, continueLine+"\n"...)
	}
	b = append(b, otherPrefix...)
	b = c.Other.AppendTo(b)
	return append(b, '\n')
}

// ParseCommand parses one line with its line feed; a carriage return before it
// is tolerated. It returns [ErrLine] or [ErrAddr].
func ParseCommand(line []byte) (Command, error) {
	text, ok := cutLine(line)
	if !ok {
		return Command{}, ErrLine
	}
	if string(text) == continueLine {
		return Command{}, nil
	}
	addr, ok := bytes.CutPrefix(text, []byte(otherPrefix))
	if !ok {
		return Command{}, ErrLine
	}
	a, err := ParseAddr(string(addr))
	if err != nil {
		return Command{}, err
	}
	return Command{Other: a}, nil
}

// cutLine takes the end of line off, and refuses what is not one whole line.
func cutLine(line []byte) ([]byte, bool) {
	if len(line) > MaxLine || bytes.IndexByte(line, '\n') != len(line)-1 {
		return nil, false
	}
	text, ok := bytes.CutSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(text, []byte("\r")), ok
}
