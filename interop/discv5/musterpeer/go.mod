module github.com/muster-p2p/muster/interop/discv5/musterpeer

go 1.26.0

require github.com/muster-p2p/muster v0.0.0

replace github.com/muster-p2p/muster => ../../..
