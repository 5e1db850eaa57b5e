#!/usr/bin/env bash
# Runs muster, and rdv v0.0.6 beside it, through every topology of natlab.sh, and
# prints a table: the path, and the milliseconds from the start of the dialling
# process to its first byte at the other one. Raw results go to bench/results/.
#
#   RUNS=3        runs per topology and implementation
#   ONLY=muster   one implementation only
#   NEAR=8        runs of the cases with peers near each other, far from the server
#
# Needs root, iproute2, nftables, ethtool and ping; it installs nothing, and says
# so when it skips.
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-3}; NEAR=${NEAR:-8}; ONLY=${ONLY:-}
out=$PWD/bench/results; mkdir -p "$out"
skip() { echo "natlab: skipped: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
for tool in ip nft ethtool ping; do command -v $tool >/dev/null || skip "$tool is not installed (Debian: iproute2 nftables ethtool iputils-ping)"; done
ip netns add nl-try 2>/dev/null && ip netns del nl-try || skip "this kernel does not let us make network namespaces"

bin=$(mktemp -d); trap 'rm -rf "$bin"; natlab/natlab.sh down || true' EXIT
go build -trimpath -o "$bin/muster" ./cmd/muster
(cd interop/rdv && GOFLAGS=-mod=mod go build -o "$bin/rdv" github.com/betamos/rdv/cmd)
(cd natlab/tools && go build -o bin/ ./...)

impl() { # impl NAME: set the commands
  case $1 in
    muster) export SERVER_CMD="$bin/muster rdv serve --listen [::]:8080" DIAL_CMD="$bin/muster rdv dial {url} {token}" ACCEPT_CMD="$bin/muster rdv accept {url} {token}";;
    rdv) export SERVER_CMD="$bin/rdv -l :8080 serve" DIAL_CMD="$bin/rdv dial {url} {token}" ACCEPT_CMD="$bin/rdv accept {url} {token}";;
  esac
}
columns=()
for name in muster rdv; do
  [ -z "$ONLY" ] || [ "$ONLY" = $name ] || continue
  impl $name
  export OUT=$out/natlab-$name.json; : >"$OUT"
  case $name in rdv) columns+=("rdv v0.0.6:$OUT");; *) columns+=("$name:$OUT");; esac
  DELAY=25 RUNS=$RUNS natlab/natlab.sh matrix
  DELAY=25 RUNS=$RUNS natlab/natlab.sh run proxy
  # Peers next to each other, the server 20 to 30 ms away from both.
  for s in easy-easy easy-easy-rst easy-easy-open fwrst-fwrst; do
    TAG=" (near)" SDELAY=20 SJITTER=10 RUNS=$NEAR natlab/natlab.sh run $s
  done
  # A server half a second away.
  TAG=" (server 500 ms away)" SDELAY=250 RUNS=$RUNS natlab/natlab.sh run easy-easy
done
echo
natlab/tools/bin/table "${columns[@]}" | tee "$out/natlab.md"
