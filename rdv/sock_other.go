//go:build !linux

package rdv

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// canPrime says that [dialPrimed] works on this platform: it needs a socket
// option that only Linux has.
const canPrime = false

func dialPrimed(context.Context, uint16, attempt) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func ignorePrimes(string, syscall.RawConn) error { return nil }
