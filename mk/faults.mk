FAULTS_ROUNDS ?= 50
FAULTS_AWAY ?= 60
FAULTS_FLOOD ?= 120

faults: ## the daemon under kill -9, full disk, database away, clock steps, few files, little memory, damage and floods: some ten minutes; a line for each
	FAULTS_ROUNDS=$(FAULTS_ROUNDS) FAULTS_AWAY=$(FAULTS_AWAY) FAULTS_FLOOD=$(FAULTS_FLOOD) \
		$(SMALL) $(PG) sh -c 'cd faults && exec go test -count=1 -v -timeout 40m ./...'
	go test -count=1 -v -run 'Panic' . ./rdv ./reach ./admin ./pubsub
	$(MAKE) faults-store

.PHONY: faults
