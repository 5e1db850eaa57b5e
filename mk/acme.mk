interop-acme: ## certificates of a real ACME authority, Let's Encrypt's pebble: issue, restart, renewal, failures; some two minutes
	interop/acme/build.sh $(INTEROP_BIN)
	go build -o $(INTEROP_BIN)/muster ./cmd/muster
	cd interop/acme && INTEROP_BIN=$(INTEROP_BIN) go test -count=1 -v -timeout 10m .

.PHONY: interop-acme
