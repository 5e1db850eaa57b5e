# `make` lists the targets; `make check` is what must pass before a commit.
.DEFAULT_GOAL := help
LINT  := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VULN  := go run golang.org/x/vuln/cmd/govulncheck@v1.8.0
STAT  := go run golang.org/x/perf/cmd/benchstat@latest
COUNT ?= 10

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-23s %s\n", $$1, $$2}'

build: ## build the one binary into bin/
	go build -trimpath -o bin/ ./cmd/...

test: ## all tests under the race detector: no network, no root
	go test -race ./...

fmt: ## rewrite the code as gofumpt and gci want it
	$(LINT) fmt

lint: ## vet, style and the import rules
	$(LINT) fmt --diff
	$(LINT) run

cross: ## build for the platforms we support
	@for t in linux/amd64 linux/arm64 darwin/arm64 windows/amd64; do \
		echo "build $$t"; GOOS=$${t%/*} GOARCH=$${t#*/} go build -o /dev/null ./cmd/muster || exit 1; done

fuzz: ## each fuzz target for FUZZTIME (default 20s)
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-20s} $$p || exit 1; done; done

microbench: ## Go benchmarks, COUNT times, into bench/new.txt and against bench/old.txt where there is one
	go test -run '^$$' -bench . -benchmem -count $(COUNT) ./... > bench/new.txt
	@if [ -f bench/old.txt ]; then $(STAT) bench/old.txt bench/new.txt; fi

tidy: ## go.mod and go.sum hold exactly what is used
	go mod tidy -diff

vuln: ## known vulnerabilities (needs vuln.go.dev)
	$(VULN) ./...

demo: build ## the main job for real: find by name, move a file direct and relayed, say a message
	go run ./examples/demo bin/muster

check: tidy lint test ## everything a commit must pass

# Rooms add their own targets (interop, natlab, bench, store tests) in mk/.
-include mk/*.mk

.PHONY: help build test demo fmt lint cross fuzz microbench tidy vuln check
