#!/bin/sh
# Builds every pubsub peer into the folder $1, one program each. What cannot
# be built leaves NAME.why with the reason, which the tests print when they
# skip; the script itself goes on.
set -u
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)

. "$here/../build.subr"

js() {
	cd "$here/js" || return 1
	if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
		npm ci --ignore-scripts || return 1
	fi
	wrapper js-pubsub "cd '$here/js' && exec node --import ./polyfill.mjs peer.mjs"
}

# Ours is the program of go-libp2p-pubsub with another import path.
muster() {
	cd "$here" || return 1
	{
		printf '%s\n' \
			"// Command peer-muster is muster's pubsub as a process: command peer-go with" \
			"// another import path, as it is. build.sh writes this file; the test" \
			"// TestPeersDifferByImportOnly holds the two to be the same."
		sed -n '/^package main/,$p' cmd/peer-go/main.go |
			sed 's#github.com/libp2p/go-libp2p-pubsub#github.com/muster-p2p/muster/pubsub#g'
	} >cmd/peer-muster/main.go
	go build -o "$out/peer-muster" ./cmd/peer-muster
}

go_peer() { cd "$here" && go build -o "$out/$1" "./cmd/$1"; }

attempt peer-go go_peer peer-go
attempt peer-muster muster
attempt rust-pubsub "$here/../rust/build.sh" "$out"
attempt js-pubsub js
attempt py-pubsub python_peer py-pubsub
exit 0
