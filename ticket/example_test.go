package ticket_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/ticket"
)

func ExampleParse() {
	id, err := peer.Decode("12D3KooWPSMtnyyAjGbWEHuznzLhUzgMu6DkpzGUpHjTGQKHDfU1")
	if err != nil {
		log.Fatal(err)
	}
	text, err := ticket.Ticket{
		Peer:    id,
		Servers: []string{"https://point.example.org"},
		Token:   "aea7wzkjn4qxk3tfovzgk5dimfxgk4tpnzsxe2lomfwgs5a",
	}.Encode()
	if err != nil {
		log.Fatal(err)
	}
	t, err := ticket.Parse(text)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(text), t.Peer, t.Servers[0])

	_, err = ticket.Parse(text[:50] + "x" + text[51:])
	fmt.Println(errors.Is(err, ticket.ErrTypo))
	// Output:
	// 137 12D3KooWPSMtnyyAjGbWEHuznzLhUzgMu6DkpzGUpHjTGQKHDfU1 https://point.example.org
	// true
}
