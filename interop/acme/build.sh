#!/bin/sh
# Builds pebble at the version of go.mod, and its DNS server, into DIR. What
# cannot be built leaves DIR/NAME.why, and the tests skip with that reason.
set -u
dir=$1
mkdir -p "$dir"
cd "$(dirname "$0")" || exit 1
for name in pebble pebble-challtestsrv; do
	rm -f "$dir/$name.why"
	if ! out=$(go build -trimpath -o "$dir/$name" "github.com/letsencrypt/pebble/v2/cmd/$name" 2>&1); then
		echo "$out" | tail -1 > "$dir/$name.why"
		echo "skip: $name was not built: $(cat "$dir/$name.why")"
	fi
done
exit 0
