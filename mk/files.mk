natlab-mesh: ## a gossipsub mesh of four programs behind four kernel NATs, over links (needs root)
	natlab/mesh.sh

bench-transfer: ## files over an encrypted link beside a bare copy of the same bytes, in one run
	go test -run '^$$' -bench 'BenchmarkTransfer' -benchmem ./transfer

.PHONY: natlab-mesh bench-transfer
