test-serve-pg: ## several daemons over one throw-away PostgreSQL, some of them killed
	rendezvous/pgstore/testdata/with-postgres.sh go test -count=1 -v -run OverOneDatabase ./cmd/muster

docs-config: ## write docs/config.md from the table of settings
	go test -count=1 -run ConfigDocs ./cmd/muster -update-docs

measure-serve: build ## time to ready, memory and processor of an idle point
	cmd/muster/testdata/measure-serve.sh bin/muster

.PHONY: test-serve-pg docs-config measure-serve
