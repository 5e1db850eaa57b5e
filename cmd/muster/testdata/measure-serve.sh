#!/bin/sh
# measure-serve.sh MUSTER [SECONDS]: an idle point on a fresh machine: time to
# ready, resident memory, processor time.
set -eu
muster=$1 seconds=${2:-30}
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null || :; wait 2>/dev/null || :; rm -rf "$dir"' EXIT
for run in 1 2 3; do
	"$muster" serve --json --data-dir "$dir/$run" --listen /ip4/127.0.0.1/tcp/0 --http 127.0.0.1:0 \
		--discv5-listen 127.0.0.1:0 --admin 127.0.0.1:0 >"$dir/out" 2>"$dir/err" &
	pid=$!
	until grep -q '"event":"ready"' "$dir/err"; do
		kill -0 $pid
		sleep 0.05
	done
	grep '"event":"ready"' "$dir/err" | sed 's/.*"ms":\([0-9]*\).*/ready after \1 ms/'
	[ $run = 3 ] || { kill $pid; wait $pid || :; }
done
ticks() { awk '{print $14 + $15}' /proc/$pid/stat; }
sleep 2
before=$(ticks)
sleep "$seconds"
after=$(ticks)
awk '/VmRSS|VmHWM|RssAnon/' /proc/$pid/status
echo "processor: $(( (after - before) * 10 )) ms in $seconds s"
