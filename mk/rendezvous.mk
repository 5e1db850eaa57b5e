interop-rendezvous: ## rendezvous: our point and client against rust, js, py and go peers
	interop/rendezvous/build.sh $(INTEROP_BIN)
	go build -o $(INTEROP_BIN)/muster ./cmd/muster
	@mkdir -p bench/results; cd interop/rendezvous && out=$(CURDIR)/bench/results/interop-rendezvous.txt && \
		INTEROP_BIN=$(INTEROP_BIN) MUSTER_BIN=$(INTEROP_BIN)/muster go test -count=1 -parallel 2 -v . >$$out 2>&1; \
		status=$$?; grep -E '^ *--- |^ok|^FAIL|_test.go' $$out; exit $$status

.PHONY: interop-rendezvous

BENCH_ROWS ?= 1000,10000,100000,1000000

bench-rendezvous: ## rendezvous: our point against berty's in one run, into bench/results (BENCH_ROWS=1000,…)
	cd bench/rendezvous && go build -o $(CURDIR)/bench/bin/ ./...
	mkdir -p bench/results
	bench/bin/rendezvous -points bench/bin -rows $(BENCH_ROWS) -expire 100000 | tee bench/results/rendezvous-$$(date -u +%Y%m%d-%H%M).txt

.PHONY: bench-rendezvous

microbench-rendezvous: ## rendezvous over loopback, 8 clients, N=1 k, 100 k and 1 M registrations; heap per registration
	MUSTER_BENCH_N=100000,1000000 go test -run '^$$' -bench 'Wire|Expire' -benchtime 3s ./rendezvous
	MUSTER_BENCH_N=1000000 go test -run TestHeapPerRegistration -v ./rendezvous

interop-withpubsub: ## go-libp2p-pubsub finds its peers with our discovery
	cd interop/rendezvous/withpubsub && go test ./...

.PHONY: microbench-rendezvous interop-withpubsub
