PG := rendezvous/pgstore/testdata/with-postgres.sh
SMALL := rendezvous/pebblestore/testdata/with-small-disk.sh
STORES := ./internal/groupcommit ./rendezvous/storetest ./rendezvous/pebblestore ./rendezvous/pgstore
KILL_ROUNDS ?= 50
AWAY ?= 60s

test-pg: ## the tests of what points share, over a throw-away PostgreSQL (installs Debian's package if it is missing)
	$(PG) go test -race -count=1 ./rendezvous/... ./rdv/pglobby
	$(PG) go test -race -count=1 -p 1 ./access/pgaccess ./reach/pglot

faults-store: ## kill -9, power loss, full disk, database away: all rounds, some three minutes (root: also a disk that is really full)
	MUSTER_TEST_KILL_ROUNDS=$(KILL_ROUNDS) MUSTER_TEST_AWAY=$(AWAY) $(SMALL) $(PG) go test -count=1 -v -timeout 20m \
		-run 'Kill|PowerLoss|Disk|Damaged|Broken|Away|Cut|Fail' ./rendezvous/pebblestore ./rendezvous/pgstore

bench-store: ## cost of a commit per row, and opening with a million rows, for each store
	PG_FSYNC=on $(PG) go test -run '^$$' -bench . -benchmem -timeout 30m $(STORES)

.PHONY: test-pg faults-store bench-store
