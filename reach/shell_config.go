package reach

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-p2p/muster/reach/wire"
)

// An Op is what somebody asks of a point.
type Op uint8

// The ops.
const (
	OpPark    Op = iota // to be kept as a callee
	OpInvite            // to have a callee invited
	OpReserve           // a token for a ticket
	numOps
)

var opNames = [numOps]string{OpPark: "park", OpInvite: "invite", OpReserve: "reserve"}

func (o Op) String() string {
	if o >= numOps {
		return "unknown"
	}
	return opNames[o]
}

// A Request is what the hooks of a [Config] decide about.
type Request struct {
	Op    Op
	Peer  peer.ID // who asks; the connection has proved it
	Token string  // its access token, empty if there is none

	// Of OpInvite. Here says whether the callee is parked here, CalleeToken is
	// the access token with which it was. If it is not, what Authorize decides is
	// whether who asks may know.
	Callee      peer.ID
	Here        bool
	CalleeToken string
}

// Config configures a [Server].
type Config struct {
	// Servers are the URLs of the rdv servers at which those who are brought
	// together meet, 1 to 4. One without a host, as "http://:8080/", is at
	// whatever address the peer has reached the point by. Required.
	Servers []string

	// Mint returns a new rdv token, of the unreserved characters of RFC 3986
	// and at most 128 of them. If nil, tokens are 128 random bits. It may be
	// called by many at once; ctx has AuthorizeWait.
	Mint func(ctx context.Context, r Request) (string, error)

	// Authorize, if not nil, decides who may ask for what. Any error refuses,
	// and the first 128 bytes of its text are told to who asks: ErrUndecided
	// with UNAVAILABLE and without its text, others with UNAUTHORIZED. It may
	// be called by many at once; ctx has AuthorizeWait.
	Authorize func(ctx context.Context, r Request) error

	// Directory, if not nil, says which callees wait at other points, and
	// DialPoint connects to one of those, so that a callee can be called by way
	// of any point: the other one's [Server.ServePoint] gets the connection. The
	// points trust each other: DialPoint must make sure whom it has reached,
	// and callers of ServePoint who has come. The servers of one must be as good
	// as those of another, since each end of a call gets those of its own point.
	Directory Directory
	DialPoint func(ctx context.Context, point string) (net.Conn, error)

	// Limits bound what strangers can have.
	Limits Limits

	// Registerer, if not nil, gets the metrics muster_reach_*.
	Registerer prometheus.Registerer

	// Logger gets the reports. If nil, they are dropped. Tokens are not logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.withDefaults()
	if c.Mint == nil {
		c.Mint = func(context.Context, Request) (string, error) { return strings.ToLower(rand.Text()), nil }
	}
	if c.Authorize == nil {
		c.Authorize = func(context.Context, Request) error { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c *Config) validate() error {
	if c.Directory != nil && c.DialPoint == nil {
		return errors.New("reach: a directory without DialPoint")
	}
	if len(c.Servers) == 0 || len(c.Servers) > wire.MaxServers {
		return fmt.Errorf("reach: %d servers, want 1 to %d", len(c.Servers), wire.MaxServers)
	}
	for _, s := range c.Servers {
		u, ok := usableServer(s, pointHost{name: "point.example"})
		if !ok && !localServer(s) || len(u) > wire.MaxServer || len(s) > wire.MaxServer {
			return fmt.Errorf("reach: %q is not the URL of a server", s)
		}
	}
	return nil
}

// localServer reports whether s is a URL that only peers nearby can use.
func localServer(s string) bool {
	_, ok := usableServer(s, pointHost{addr: loopback})
	return ok
}

var errMint = errors.New("reach: the minted token is not an rdv token")

// ErrUndecided is what [Config.Authorize] and [Config.Mint] return if it cannot
// be decided now who may ask, such as when who decides is away. Who asked may
// try another point.
var ErrUndecided = errors.New("reach: access cannot be decided now")

// refusal is the answer to a request that was not authorized.
func refusal(err error) (wire.Status, string) {
	if errors.Is(err, ErrUndecided) {
		return wire.Unavailable, undecidedText
	}
	return wire.Unauthorized, sayable(err)
}

// refused is the message of a refusal.
func refused(err error) wire.Message {
	status, text := refusal(err)
	return wire.Message{Status: status, Text: text}
}

// notMinted is the answer to who was authorized and gets no token.
func notMinted(err error) wire.Message {
	if errors.Is(err, ErrUndecided) {
		return refused(err)
	}
	return wire.Message{Status: wire.Internal}
}

// undecidedText tells this UNAVAILABLE from that of a point that stops.
const undecidedText = "it cannot be decided now who may use it"

// sayable cuts what an error says to what fits a message.
func sayable(err error) string {
	s := strings.ToValidUTF8(err.Error(), "")
	for len(s) > wire.MaxText {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
