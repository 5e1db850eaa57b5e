natlab-link: ## links through kernel NATs, and with cables cut (needs root; PART=table|faults, RUNS=3)
	natlab/link.sh

bench-link: ## a link beside plain TLS 1.3 on loopback, in turns: by the clock, and by processor time
	go test ./link -run '^$$' -bench 'Ratio|Throughput' -benchmem -count 5

fuzz-link: ## the parser of frames, FUZZTIME (default 20s)
	go test ./link/wire -run '^$$' -fuzz FuzzFrame -fuzztime $${FUZZTIME:-20s}

.PHONY: natlab-link bench-link fuzz-link
