interop-rdv: ## muster and rdv v0.0.6, each as server, dialer and acceptor, direct and relayed
	cd interop/rdv && go test -count=1 -v -run TestCombinations ./...

.PHONY: interop-rdv
