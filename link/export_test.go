package link

import (
	"crypto/tls"
	"net"
)

// TerminateTLS answers a handshake on conn as this endpoint, whoever was asked
// for, and reads what comes then.
func (e *Endpoint) TerminateTLS(conn net.Conn) (n int, err error) {
	cfg, _ := e.identity.ConfigForPeer("")
	cfg.NextProtos = []string{alpn}
	t := tls.Server(conn, cfg)
	if err := t.Handshake(); err != nil {
		return 0, err
	}
	return t.Read(make([]byte, 4096))
}
