package enr_test

import (
	"fmt"
	"log"
	"net/netip"

	"github.com/muster-p2p/muster/enr"
)

// A record is read from its text form, and its signature verified.
func ExampleParseText() {
	r, err := enr.ParseText("enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8")
	if err != nil {
		log.Fatal(err)
	}
	udp, _ := r.UDPEndpoint4()
	fmt.Println(r.ID(), r.Seq(), udp)
	// Output: a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7 1 127.0.0.1:30303
}

// A record is made of content, which is signed.
func ExampleContent_Sign() {
	key, err := enr.GenerateKey()
	if err != nil {
		log.Fatal(err)
	}
	c := enr.Content{Seq: 7}
	c.SetUDPEndpoint(netip.MustParseAddrPort("203.0.113.7:9000"))
	c.Set("greeting", []byte("hello"))
	r, err := c.Sign(key)
	if err != nil {
		log.Fatal(err)
	}
	udp, _ := r.UDPEndpoint4()
	fmt.Println(r.Seq(), udp, r.Contains("greeting", []byte("hello")))
	// Output: 7 203.0.113.7:9000 true
}
