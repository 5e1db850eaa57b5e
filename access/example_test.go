package access_test

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-p2p/muster/access"
)

// A point that relays for who has a token mints one for two peers to meet by.
func Example() {
	minter, err := access.NewMinter(make([]byte, access.MinSecret)) // yours is random
	if err != nil {
		panic(err)
	}
	gate, err := access.NewGate(access.Config{Policy: access.Policy{Relay: access.ByToken}, Minter: minter})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	_, err = gate.Relay(ctx, access.RelayRequest{Token: "a-room"})
	fmt.Println(err)
	_, err = gate.Relay(ctx, access.RelayRequest{Token: gate.Mint(access.Grant{}, time.Minute)})
	fmt.Println(err)
	// Output:
	// access: no valid token: there is none
	// <nil>
}
