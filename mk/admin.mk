# The operator's side: status page, packaging, release.

.PHONY: e2e

e2e: ## the status page in a real browser (node, npm and Chromium; says so where they are missing)
	@command -v node >/dev/null && command -v npm >/dev/null || { echo "skip: no node or npm"; exit 0; }; \
	go build -trimpath -o bin/ ./cmd/muster ./examples/statuspage && cd e2e && \
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npm test --silent
