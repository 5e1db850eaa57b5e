# The operator's side: status page, packaging, release.

.PHONY: e2e

e2e: ## the status page in a real browser (node, npm and Chromium; says so where they are missing)
	@command -v node >/dev/null && command -v npm >/dev/null || { echo "skip: no node or npm"; exit 0; }; \
	go build -trimpath -o bin/ ./cmd/muster ./examples/statuspage && cd e2e && \
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npm test --silent

.PHONY: release release-check packaging

packaging: ## dashboards, alerts, unit and image against the program they are for
	go test ./packaging

release: ## reproducible archives for six platforms with SHA256SUMS, into dist/ (VERSION=v1.2.3)
	packaging/release.sh

release-check: ## a release built twice has the same hashes (TARGETS="linux/amd64 …" for fewer)
	packaging/release-check.sh
