#!/bin/sh
# Builds every pubsub peer into the folder $1, one program each. What cannot
# be built leaves NAME.why with the reason, which the tests print when they
# skip; the script itself goes on.
set -u
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)

# attempt NAME COMMAND… runs COMMAND, and keeps the end of its log on failure.
attempt() {
	name=$1
	shift
	rm -f "$out/$name.why"
	echo "build $name"
	if ! "$@" >"$out/$name.log" 2>&1; then
		rm -f "$out/$name"
		{ echo "$* failed:"; tail -n 5 "$out/$name.log"; } | sed 's#https\{0,1\}://[^/ ]*#REGISTRY#g' >"$out/$name.why"
		cat "$out/$name.why"
	fi
}

wrapper() { # NAME COMMAND: a program that runs COMMAND with its arguments
	printf '#!/bin/sh\n%s "$@"\n' "$2" >"$out/$1" && chmod +x "$out/$1"
}

js() {
	cd "$here/js" || return 1
	if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
		npm ci --ignore-scripts || return 1
	fi
	wrapper js-pubsub "cd '$here/js' && exec node --import ./polyfill.mjs peer.mjs"
}

python() {
	venv=$out/py-venv
	if ! cmp -s "$here/py/requirements.txt" "$venv/requirements.txt"; then
		python3 -m venv "$venv" && "$venv/bin/pip" install -q -r "$here/py/requirements.txt" &&
			cp "$here/py/requirements.txt" "$venv/" || return 1
	fi
	wrapper py-pubsub "exec '$venv/bin/python' '$here/py/peer.py'"
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
attempt py-pubsub python
exit 0
