package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// NonceLen is the length in bytes of the nonce of a pair.
const NonceLen = 16

// maxExt bounds the text of an extension field.
const maxExt = 256

// An Ext is what muster's clients and servers tell each other beyond rdv/1, as
// words in Rdv-Ext (client to server) and Rdv-Peer-Ext (server to client):
//
//	proof              the client can prove the token on direct connections
//	prime              the client ignores SYNs with a low hop limit, so that
//	                   its peer may prime NATs with them
//	relay              the client takes no direct connection
//	nonce=<base64url>  to be proved with; the same for both of a pair
//
// A server sends Rdv-Peer-Ext only if both clients sent Rdv-Ext with the word
// proof: the peer's words, and a fresh nonce. Unknown words are ignored.
type Ext struct {
	Proof bool
	Prime bool
	Relay bool
	Nonce []byte // NonceLen bytes, or nil
}

// String returns the value of the field.
func (e Ext) String() string {
	var words []string
	if e.Proof {
		words = append(words, "proof")
	}
	if e.Prime {
		words = append(words, "prime")
	}
	if e.Relay {
		words = append(words, "relay")
	}
	if len(e.Nonce) == NonceLen {
		words = append(words, "nonce="+base64.RawURLEncoding.EncodeToString(e.Nonce))
	}
	return strings.Join(words, "; ")
}

// ParseExt parses the value of a field. What it does not understand, it
// leaves out: an extension never makes a handshake fail.
func ParseExt(s string) Ext {
	var e Ext
	if len(s) > maxExt {
		return e
	}
	for word := range strings.SplitSeq(s, ";") {
		name, value, _ := strings.Cut(strings.Trim(word, " \t"), "=")
		switch name {
		case "proof":
			e.Proof = true
		case "prime":
			e.Prime = true
		case "relay":
			e.Relay = true
		case "nonce":
			if b, err := base64.RawURLEncoding.Strict().DecodeString(value); err == nil && len(b) == NonceLen {
				e.Nonce = b
			}
		}
	}
	return e
}

// Proof returns the word that a client with the given method writes in its
// [Hello] in place of the token, when both clients of a pair and their server
// know the extension. A stranger who answers at a candidate address learns
// nothing of the token from it, and cannot make the answer.
func Proof(token, method string, nonce []byte) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte("rdv/1 " + method + " "))
	mac.Write(nonce)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}
