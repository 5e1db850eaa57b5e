#!/bin/sh
# Builds every foreign rendezvous peer into the folder $1, one program each.
# What cannot be built leaves NAME.why with the reason, which the tests print
# when they skip; the script itself goes on.
set -u
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)

. "$here/../build.subr"

canvas() {
	cd "$here/js" || return 1
	if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
		npm ci --ignore-scripts || return 1
	fi
	# better-sqlite3 is C++: built here, not downloaded. Debian has its headers in /usr.
	[ ! -e /usr/include/node/node.h ] || NODEDIR=${NODEDIR:-/usr}
	if [ ! -e node_modules/better-sqlite3/build/Release/better_sqlite3.node ]; then
		gyp=$(npm root -g)/npm/node_modules/node-gyp/bin/node-gyp.js
		(cd node_modules/better-sqlite3 && nice -n 15 node "$gyp" rebuild --release ${NODEDIR:+--nodedir="$NODEDIR"}) || return 1
	fi
	wrapper canvas-js "cd '$here/js' && exec node --import ./polyfill.mjs peer.mjs"
}

go_peer() { cd "$here" && go build -o "$out/$1" "./cmd/$1"; }
waku001() { cd "$here/waku001" && go build -o "$out/peer-waku001" .; }

attempt peer-berty go_peer peer-berty
attempt peer-wakufork go_peer peer-wakufork
attempt peer-waku001 waku001
attempt rust-rendezvous "$here/../rust/build.sh" "$out"
attempt canvas-js canvas
attempt py-libp2p python_peer py-libp2p
exit 0
