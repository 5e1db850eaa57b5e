natlab: ## through kernel NATs in network namespaces, beside rdv v0.0.6 (needs root)
	natlab/run.sh

.PHONY: natlab
