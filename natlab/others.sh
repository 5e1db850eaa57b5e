#!/usr/bin/env bash
# Runs pion/webrtc and go-libp2p (circuit relay v2 and DCUtR) through every
# topology of natlab.sh, as run.sh does with muster and rdv, and prints their
# table. Raw results go to bench/results/natlab-{pion,libp2p}.json.
#
#   RUNS=3        runs per topology and implementation
#   ONLY=pion     one implementation only
#   NEAR=8        runs of the cases with peers near each other, far from the server
#   SETTLE=7s     how long a direct connection of libp2p is waited for
#   NL=no         prefix of the namespaces
#
# Needs root, iproute2, nftables, ethtool and ping; it installs nothing, and says
# so when it skips.
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-3}; NEAR=${NEAR:-8}; ONLY=${ONLY:-}; WAIT=${SETTLE:-7s}; export NL=${NL:-no}
out=$PWD/bench/results; mkdir -p "$out"
skip() { echo "natlab: skipped: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
for tool in ip nft ethtool ping; do command -v $tool >/dev/null || skip "$tool is not installed (Debian: iproute2 nftables ethtool iputils-ping)"; done
ip netns add "$NL-try" 2>/dev/null && ip netns del "$NL-try" || skip "this kernel does not let us make network namespaces"

bin=$(mktemp -d); trap 'rm -rf "$bin"; natlab/natlab.sh down || true' EXIT
(cd bench/reach && go build -trimpath -o "$bin/" ./cmd/...)
(cd natlab/tools && go build -o bin/ ./...)

# Where only the server's port is reachable, pion's TURN is too: it has a port of its own.
export EGRESS="8080, 3478" PROBE_ARGS=-keep-log
columns=()
for name in pion libp2p; do
  [ -z "$ONLY" ] || [ "$ONLY" = $name ] || continue
  peer=$bin/peer-$name
  export SERVER_CMD="$peer serve :8080" DIAL_CMD="$peer dial {url} {token}" ACCEPT_CMD="$peer accept {url} {token}"
  # pion chooses its path before the pipe opens; libp2p goes on looking.
  if [ $name = libp2p ]; then export SETTLE=$WAIT; else export SETTLE=; fi
  export OUT=$bin/$name.json; : >"$OUT"
  columns+=("$name:$out/natlab-$name.json")
  DELAY=25 RUNS=$RUNS natlab/natlab.sh matrix
  DELAY=25 RUNS=$RUNS natlab/natlab.sh run proxy
  for s in easy-easy easy-easy-rst easy-easy-open fwrst-fwrst; do
    TAG=" (near)" SDELAY=20 SJITTER=10 RUNS=$NEAR natlab/natlab.sh run $s
  done
  TAG=" (server 500 ms away)" SDELAY=250 RUNS=$RUNS natlab/natlab.sh run easy-easy
  "$bin/fold" <"$OUT" >"$out/natlab-$name.json"
done
echo
"$bin/table" "${columns[@]}" | tee "$out/natlab-others.md"
