# Foreign peers: built into interop/bin from their registries with pinned
# versions, each a process; see interop/*/README.md.
INTEROP_BIN ?= $(CURDIR)/interop/bin

interop-rendezvous: ## rendezvous: our point and client against rust, js, py and go peers
	interop/rendezvous/build.sh $(INTEROP_BIN)
	go build -o $(INTEROP_BIN)/muster ./cmd/muster
	@mkdir -p bench/results; cd interop/rendezvous && out=$(CURDIR)/bench/results/interop-rendezvous.txt && \
		INTEROP_BIN=$(INTEROP_BIN) MUSTER_BIN=$(INTEROP_BIN)/muster go test -count=1 -parallel 2 -v . >$$out 2>&1; \
		status=$$?; grep -E '^ *--- |^ok|^FAIL|_test.go' $$out; exit $$status

.PHONY: interop-rendezvous

interop-pubsub: ## pubsub: our routers against go, js, rust and py peers, and a mixed mesh
	interop/pubsub/build.sh $(INTEROP_BIN)
	go build -o $(INTEROP_BIN)/muster ./cmd/muster
	@mkdir -p bench/results; cd interop/pubsub && out=$(CURDIR)/bench/results/interop-pubsub.txt && \
		INTEROP_BIN=$(INTEROP_BIN) MUSTER_BIN=$(INTEROP_BIN)/muster go test -count=1 -parallel 2 -timeout 30m -v . >$$out 2>&1; \
		status=$$?; grep -E '^ *--- |^ok|^FAIL|_test.go' $$out; exit $$status

.PHONY: interop-pubsub

BENCH_ROWS ?= 1000,10000,100000,1000000

bench-rendezvous: ## rendezvous: our point against berty's in one run, into bench/results (BENCH_ROWS=1000,…)
	cd bench/rendezvous && go build -o $(CURDIR)/bench/bin/ ./...
	mkdir -p bench/results
	bench/bin/rendezvous -points bench/bin -rows $(BENCH_ROWS) -expire 100000 | tee bench/results/rendezvous-$$(date -u +%Y%m%d-%H%M).txt

.PHONY: bench-rendezvous
