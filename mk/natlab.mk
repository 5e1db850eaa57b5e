# Kernel NATs in network namespaces; each needs root, and says so when it skips.
natlab: ## through kernel NATs in network namespaces, beside rdv v0.0.6 (needs root)
	natlab/run.sh

natlab-link: ## links through kernel NATs, and with cables cut (needs root; PART=table|faults|moves, RUNS=3)
	natlab/link.sh

natlab-others: ## pion/webrtc and go-libp2p through the same NATs, by bench/reach (needs root)
	natlab/others.sh

natlab-mesh: ## a gossipsub mesh of four programs behind four kernel NATs, over links (needs root)
	natlab/mesh.sh

.PHONY: natlab natlab-link natlab-others natlab-mesh

natlab-doctor: ## 'muster netcheck' and 'doctor' behind each kind of kernel NAT: what they say beside what is there (needs root)
	natlab/doctor.sh

.PHONY: natlab-doctor
