package wire

// helloVersion is the version of the first bytes of a link.
const helloVersion = 1

// HelloHead is how many bytes of a hello tell the length of the rest.
const HelloHead = 2

// AppendHello appends the first bytes that a caller sends on a link. They bind
// the service to the secured stream: a point that tells the callee of another
// service than the caller has asked for is found out. A service that is not
// valid is the caller's mistake, and panics.
func AppendHello(dst []byte, service string) []byte {
	if !ValidService(service) {
		panic("BUG: invalid service")
	}
	dst = append(dst, helloVersion, byte(len(service)))
	return append(dst, service...)
}

// ParseHelloHead reads the first [HelloHead] bytes of a hello and returns how
// many follow: the service's name, as [ValidService] wants it.
func ParseHelloHead(b [HelloHead]byte) (length int, err error) {
	if b[0] != helloVersion {
		return 0, malformed("version of hello")
	}
	if b[1] > MaxService {
		return 0, malformed("service")
	}
	return int(b[1]), nil
}
