module github.com/muster-p2p/muster/bench/rdv

go 1.26.0

tool github.com/betamos/rdv/cmd

require github.com/betamos/rdv v0.0.6 // indirect

require (
	github.com/libp2p/go-reuseport v0.4.0 // indirect
	golang.org/x/sys v0.19.0 // indirect
)
