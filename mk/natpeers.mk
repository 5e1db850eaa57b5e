natlab-others: ## pion/webrtc and go-libp2p through the same NATs, by bench/reach (needs root)
	natlab/others.sh

.PHONY: natlab-others
