package ticket

import "strings"

// alphabet32 is RFC 4648's base32 in lower case. Tokens that a point mints
// are of it, so they need 5 bits a character.
const alphabet32 = "abcdefghijklmnopqrstuvwxyz234567"

// alphabet39 is what the names and ports of most URLs are made of. 40 to the
// third power is less than 2 to the 16th: three characters go in two bytes.
// The zeroth of the 40 is for the characters behind the end.
const alphabet39 = "abcdefghijklmnopqrstuvwxyz0123456789-.:"

const radix = len(alphabet39) + 1

// packable reports whether s is of the alphabet only.
func packable(s, alphabet string) bool {
	for _, c := range []byte(s) {
		if strings.IndexByte(alphabet, c) < 0 {
			return false
		}
	}
	return true
}

// pack32 appends s with 5 bits a character, and zero bits up to a whole byte.
func pack32(b []byte, s string) []byte {
	var acc, bits uint
	for _, c := range []byte(s) {
		acc = acc<<5 | uint(strings.IndexByte(alphabet32, c))
		if bits += 5; bits >= 8 {
			bits -= 8
			b = append(b, byte(acc>>bits))
		}
	}
	if bits > 0 {
		b = append(b, byte(acc<<(8-bits)))
	}
	return b
}

func packedSize32(n int) int { return (5*n + 7) / 8 }

// unpack32 reads n characters from packedSize32(n) bytes.
func unpack32(b []byte, n int) string {
	var acc, bits uint
	out := make([]byte, 0, n)
	for len(out) < n {
		if bits < 5 {
			acc, b, bits = acc<<8|uint(b[0]), b[1:], bits+8
		}
		bits -= 5
		out = append(out, alphabet32[acc>>bits&31])
	}
	return string(out)
}

// pack39 appends s with three characters in two bytes.
func pack39(b []byte, s string) []byte {
	for i := 0; i < len(s); i += 3 {
		v := 0
		for j := i; j < i+3; j++ {
			v *= radix
			if j < len(s) {
				v += strings.IndexByte(alphabet39, s[j]) + 1
			}
		}
		b = append(b, byte(v>>8), byte(v))
	}
	return b
}

func packedSize39(n int) int { return (n + 2) / 3 * 2 }

// unpack39 reads n characters from packedSize39(n) bytes. What pack39 does not
// write comes out as characters that no URL has.
func unpack39(b []byte, n int) string {
	const bad = "\x00" + alphabet39
	out := make([]byte, 0, n+2)
	for ; len(b) > 0; b = b[2:] {
		v := int(b[0])<<8 | int(b[1])
		out = append(out, bad[v/radix/radix%radix], bad[v/radix%radix], bad[v%radix])
	}
	return string(out[:n])
}
