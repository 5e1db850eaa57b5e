bench-link: ## a link beside plain TLS 1.3 on loopback, in turns: by the clock, and by processor time
	go test ./link -run '^$$' -bench 'Ratio|Throughput' -benchmem -count 5

fuzz-link: ## the parser of frames, FUZZTIME (default 20s)
	go test ./link/wire -run '^$$' -fuzz FuzzFrame -fuzztime $${FUZZTIME:-20s}

.PHONY: bench-link fuzz-link

bench-transfer: ## files over an encrypted link beside a bare copy of the same bytes, in one run
	go test -run '^$$' -bench 'BenchmarkTransfer' -benchmem ./transfer

.PHONY: bench-transfer
