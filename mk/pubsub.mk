interop-pubsub: ## pubsub: our routers against go, js, rust and py peers, and a mixed mesh
	interop/pubsub/build.sh $(INTEROP_BIN)
	go build -o $(INTEROP_BIN)/muster ./cmd/muster
	@mkdir -p bench/results; cd interop/pubsub && out=$(CURDIR)/bench/results/interop-pubsub.txt && \
		INTEROP_BIN=$(INTEROP_BIN) MUSTER_BIN=$(INTEROP_BIN)/muster go test -count=1 -parallel 2 -timeout 30m -v . >$$out 2>&1; \
		status=$$?; grep -E '^ *--- |^ok|^FAIL|_test.go' $$out; exit $$status

sim-pubsub: ## pubsub: 1,000 routers in virtual time under the race detector too (go test runs them without, and 100 with it)
	PUBSUB_SIM=1 go test -race -count=1 -timeout 20m -run TestSim -v ./pubsub

.PHONY: interop-pubsub sim-pubsub

.PHONY: bench-pubsub bench-pubsub-wan

bench-pubsub: ## pubsub against go-libp2p-pubsub, some ten minutes on a quiet machine
	cd bench/pubsub && go run . -cases pair,burst,graft,decode,seen | tee ../results/pubsub-pair.txt
	go test -run 'TestSeenMemory|TestSim' -v ./pubsub | tee bench/results/pubsub-seen-and-sim.txt
	cd bench/pubsub && go run . -cases mesh | tee ../results/pubsub-mesh.txt

bench-pubsub-wan: ## the same on a simulated WAN of 50 hosts, in virtual time
	cd bench/pubsub && for seed in 1 2 3; do go test -run WAN -v -wan -wan-seed $$seed -timeout 20m; done \
		| tee ../results/pubsub-wan.txt
