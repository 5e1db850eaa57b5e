fuzz-discv5: ## the parsers of records, packets, messages and files, FUZZTIME each (default 20s)
	@for p in ./enr ./discv5/wire ./discv5 ./internal/rlp; do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-20s} $$p || exit 1; done; done

bench-discv5-local: ## round trips over loopback, codec and curve arithmetic, without other implementations
	go test -run '^$$' -bench . -benchmem ./enr ./discv5/... ./internal/secp

.PHONY: fuzz-discv5 bench-discv5-local
