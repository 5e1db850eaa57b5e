bench-rendezvous: ## rendezvous over loopback, 8 clients, N=1 k, 100 k and 1 M registrations; heap per registration
	MUSTER_BENCH_N=100000,1000000 go test -run '^$$' -bench 'Wire|Expire' -benchtime 3s ./rendezvous
	MUSTER_BENCH_N=1000000 go test -run TestHeapPerRegistration -v ./rendezvous

interop-withpubsub: ## go-libp2p-pubsub finds its peers with our discovery
	cd interop/rendezvous/withpubsub && go test ./...

.PHONY: bench-rendezvous interop-withpubsub
