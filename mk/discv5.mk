# Node Discovery v5 against other implementations and in virtual time. Reports go
# to bench/results/. The first run downloads and builds the peers; interop skips,
# with the reason, a peer that cannot be built. ARGS are flags of the programs.
DISCV5_RESULTS := $(CURDIR)/bench/results

interop-discv5: ## discv5 against go-ethereum's suite, go-ethereum, @chainsafe/discv5 and sigp/discv5
	@mkdir -p $(DISCV5_RESULTS)
	cd interop/discv5 && go run . -out $(DISCV5_RESULTS)/discv5-interop.txt $(ARGS)

bench-discv5: ## discv5 against go-ethereum v1.17.10 in one run
	@mkdir -p $(DISCV5_RESULTS)
	cd bench/discv5 && go run . -out $(DISCV5_RESULTS)/discv5-bench.txt $(ARGS)

sim-discv5: ## discv5 in virtual time: NODES nodes (1000), recall, lookup and join times; 10000 take an hour
	@mkdir -p $(DISCV5_RESULTS)
	MUSTER_SIM_NODES=$${NODES:-1000} go test -run '^TestSimulatedNetwork$$' -v -timeout 8h ./discv5 > $(DISCV5_RESULTS)/discv5-sim.txt; \
		code=$$?; cat $(DISCV5_RESULTS)/discv5-sim.txt; exit $$code

.PHONY: interop-discv5 bench-discv5 sim-discv5

fuzz-discv5: ## the parsers of records, packets, messages and files, FUZZTIME each (default 20s)
	@for p in ./enr ./discv5/wire ./discv5 ./internal/rlp; do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-20s} $$p || exit 1; done; done

bench-discv5-local: ## round trips over loopback, codec and curve arithmetic, without other implementations
	go test -run '^$$' -bench . -benchmem ./enr ./discv5/... ./internal/secp

.PHONY: fuzz-discv5 bench-discv5-local
