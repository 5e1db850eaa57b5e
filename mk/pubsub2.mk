.PHONY: bench-pubsub bench-pubsub-wan

bench-pubsub: ## pubsub against go-libp2p-pubsub, some ten minutes on a quiet machine
	cd bench/pubsub && go run . -cases pair,burst,graft,decode,seen | tee ../results/pubsub-pair.txt
	go test -run 'TestSeenMemory|TestSim' -v ./pubsub | tee bench/results/pubsub-seen-and-sim.txt
	cd bench/pubsub && go run . -cases mesh | tee ../results/pubsub-mesh.txt

bench-pubsub-wan: ## the same on a simulated WAN of 50 hosts, in virtual time
	cd bench/pubsub && for seed in 1 2 3; do go test -run WAN -v -wan -wan-seed $$seed -timeout 20m; done \
		| tee ../results/pubsub-wan.txt
