module github.com/muster-p2p/muster/interop/internal/lines

go 1.26.0
