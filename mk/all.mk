# Foreign peers: built into interop/bin from their registries with pinned
# versions, each a process; see interop/*/README.md.
INTEROP_BIN ?= $(CURDIR)/interop/bin

interop: interop-rdv interop-rendezvous interop-discv5 interop-pubsub interop-acme ## all foreign peers; says which it skips

bench: bench-rdv bench-rendezvous bench-discv5 bench-pubsub ## us beside others, in one run each, into bench/results/

.PHONY: interop bench
