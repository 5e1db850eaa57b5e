package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// A minted token, before its text form:
//
//	version(1) expiry(5) account(5) random(16) mac(13)      40 bytes, 64 letters
//
// Expiry is in Unix seconds, big endian. Account is whose quota pays, zero if
// nobody's. The MAC is HMAC-SHA256 of all before it, cut to 104 bits. The text
// form is base32 in lower case: 40 bytes need no padding and no spare bits, so
// that a token has one text.
const (
	mintVersion  = 1
	expiryLen    = 5
	randomLen    = 16 // 128 bits: a token is also the name of a meeting
	macLen       = 13
	mintedLen    = 1 + expiryLen + accountLen + randomLen + macLen
	MintedLength = mintedLen * 8 / 5 // letters of a minted token

	// MaxLifetime bounds a minted token: who holds a ticket for longer asks for
	// another one.
	MaxLifetime = 30 * 24 * time.Hour

	// ClockSkew is how much later a minted token is still taken: the clocks of
	// points that share a secret need not agree better.
	ClockSkew = 5 * time.Minute

	// MinSecret is the least length of a minter's secret, in bytes.
	MinSecret = 32
)

var (
	// ErrUnauthorized is returned where there is no token, or none that is known.
	ErrUnauthorized = errors.New("access: no valid token")

	// ErrForbidden is returned where who asks is known and may not: a token that
	// has run out, is used up, or was issued for something else, and names that
	// are not served.
	ErrForbidden = errors.New("access: not allowed")

	// ErrUnavailable is returned where the operator's service did not answer.
	ErrUnavailable = errors.New("access: cannot be decided now")
)

var errExpired = fmt.Errorf("%w: the token has run out", ErrForbidden)

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// A Minter makes tokens that prove by themselves that they are its own. It may
// be used by several goroutines at once.
type Minter struct {
	key [sha256.Size]byte
}

// NewMinter returns the minter of a secret of at least MinSecret bytes, which
// is not used itself but for what is derived from it: minters of one secret
// believe each other.
func NewMinter(secret []byte) (*Minter, error) {
	if len(secret) < MinSecret {
		return nil, fmt.Errorf("access: a minter needs a secret of %d bytes", MinSecret)
	}
	m := &Minter{}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("muster access minter 1"))
	mac.Sum(m.key[:0])
	return m, nil
}

// Mint returns a new token that is good for ttl from now, at most MaxLifetime.
func (m *Minter) Mint(now time.Time, ttl time.Duration) string {
	return m.MintFor(now, ttl, Account{})
}

// MintFor is Mint with somebody who pays for what the token is used for.
func (m *Minter) MintFor(now time.Time, ttl time.Duration, payer Account) string {
	expiry := now.Add(min(ttl, MaxLifetime)).Unix()
	b := make([]byte, 0, mintedLen)
	b = binary.BigEndian.AppendUint64(b, mintVersion<<(8*expiryLen)|uint64(max(0, expiry)))[8-1-expiryLen:]
	b = append(b, payer[:]...)
	b = b[:len(b)+randomLen]
	rand.Read(b[len(b)-randomLen:]) // never fails, by its contract
	b = m.appendMAC(b, b)
	return base32Lower.EncodeToString(b)
}

func (m *Minter) appendMAC(dst, body []byte) []byte {
	mac := hmac.New(sha256.New, m.key[:])
	mac.Write(body)
	var sum [sha256.Size]byte
	return append(dst, mac.Sum(sum[:0])[:macLen]...)
}

// Valid returns nil if the token is one of this minter's and has not run out;
// else ErrUnauthorized or ErrForbidden. It allocates nothing that depends on
// the token's length.
func (m *Minter) Valid(now time.Time, token string) error {
	_, err := m.open(now, token)
	return err
}

// open is Valid, and says who pays.
func (m *Minter) open(now time.Time, token string) (Account, error) {
	var raw [mintedLen]byte
	if len(token) != MintedLength {
		return Account{}, ErrUnauthorized
	}
	if _, err := base32Lower.Decode(raw[:], []byte(token)); err != nil {
		return Account{}, ErrUnauthorized
	}
	body, mac := raw[:mintedLen-macLen], raw[mintedLen-macLen:]
	var want [macLen]byte
	if !hmac.Equal(m.appendMAC(want[:0], body), mac) || body[0] != mintVersion {
		return Account{}, ErrUnauthorized
	}
	var expiry [8]byte
	copy(expiry[8-expiryLen:], body[1:])
	if now.Add(-ClockSkew).Unix() >= int64(binary.BigEndian.Uint64(expiry[:])) {
		return Account{}, errExpired
	}
	return Account(body[1+expiryLen:][:accountLen]), nil
}
