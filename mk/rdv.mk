interop-rdv: ## muster and rdv v0.0.6, each as server, dialer and acceptor, direct and relayed
	cd interop/rdv && go test -count=1 -v -run TestCombinations ./...

.PHONY: interop-rdv

bench-rdv: ## load on muster's rdv server and on v0.0.6, in turns (ROUNDS=3; some 6 minutes, on a quiet machine)
	mkdir -p bench/results
	cd bench/rdv && go run . -rounds $${ROUNDS:-3} | tee ../results/rdv-load-$$(date -u +%Y%m%d).txt

.PHONY: bench-rdv
