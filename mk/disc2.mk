# Node Discovery v5 against other implementations. Both need network access for
# the first build of the peers; interop skips, with the reason, what it cannot build.
interop-discv5: ## discv5 against go-ethereum's suite, go-ethereum, @chainsafe/discv5 and sigp/discv5
	cd interop/discv5 && go run . $(ARGS)

bench-discv5: ## discv5 against go-ethereum v1.17.10 in one run, into bench/results/
	@mkdir -p bench/results
	cd bench/discv5 && go run . $(ARGS) | tee ../results/discv5-$$(date +%Y%m%d).txt

sim-discv5: ## discv5 in virtual time: NODES nodes (1000), recall, lookup and join times; 10000 take an hour
	MUSTER_SIM_NODES=$${NODES:-1000} go test -run '^TestSimulatedNetwork$$' -v -timeout 8h ./discv5

.PHONY: interop-discv5 bench-discv5 sim-discv5
