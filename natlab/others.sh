#!/usr/bin/env bash
# Runs pion/webrtc and go-libp2p (circuit relay v2 and DCUtR) through every
# topology of natlab.sh, by turns with muster's rdv so that all had the same
# machine, and prints their table. Raw results go to bench/results/, into
# natlab-{pion,libp2p}.json and natlab-beside.json (muster), after each topology.
#
#   RUNS=3             runs per topology and implementation
#   ONLY="pion"        these implementations only
#   TOPOLOGIES="a b"   these topologies only; the results of others stay
#   NEAR=8             runs of the cases with peers near each other, far from the server
#   SETTLE=25s         how long a direct connection of libp2p is waited for: it tries thrice, for 10 s each
#   NL=no              prefix of the namespaces
#
# Each result has the share of time in which something waited for a processor
# ("cpu_wait"): where it is high, run that topology again.
#
# Needs root, iproute2, nftables, ethtool and ping; it installs nothing, and says
# so when it skips.
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-3}; NEAR=${NEAR:-8}; ONLY=${ONLY:-muster pion libp2p}; WAIT=${SETTLE:-25s}; export NL=${NL:-no}
out=$PWD/bench/results; mkdir -p "$out"
skip() { echo "natlab: skipped: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
for tool in ip nft ethtool ping; do command -v $tool >/dev/null || skip "$tool is not installed (Debian: iproute2 nftables ethtool iputils-ping)"; done
ip netns add "$NL-try" 2>/dev/null && ip netns del "$NL-try" || skip "this kernel does not let us make network namespaces"

bin=$(mktemp -d); trap 'natlab/natlab.sh down || true; rm -rf "$bin"' EXIT
(cd bench/reach && go build -trimpath -o "$bin/" ./cmd/...)
go build -trimpath -o "$bin/muster" ./cmd/muster
(cd natlab/tools && go build -o bin/ ./...)

file() { case $1 in muster) echo "$out/natlab-beside.json";; *) echo "$out/natlab-$1.json";; esac; }
waited() { awk '/^some/ { sub(".*total=", ""); print }' /proc/pressure/cpu 2>/dev/null || echo 0; } # microseconds

beside() { # beside TOPOLOGY: all implementations, by turns
  local name w t
  for name in $ONLY; do
    export SERVER_CMD="$bin/peer-$name serve :8080" DIAL_CMD="$bin/peer-$name dial {url} {token}" ACCEPT_CMD="$bin/peer-$name accept {url} {token}"
    export OUT=$bin/$name.json EGRESS=8080 PROBE_ARGS=-keep-log SETTLE=
    case $name in
      muster) SERVER_CMD="$bin/muster rdv serve --listen [::]:8080" DIAL_CMD="$bin/muster rdv dial {url} {token}" ACCEPT_CMD="$bin/muster rdv accept {url} {token}";;
      pion) EGRESS="8080, 3478";; # where only the server is reachable, its TURN is too: it has a port of its own
      libp2p) SETTLE=$WAIT;;      # pion chooses its path before the pipe opens; libp2p goes on looking
    esac
    : >"$OUT"; w=$(waited); t=$EPOCHREALTIME
    natlab/natlab.sh run "$1"
    "$bin/fold" -into "$(file $name)" -waited $(($(waited) - w)) -of $((${EPOCHREALTIME/./} - ${t/./})) <"$OUT"
  done
}

export RUNS DELAY=25
for s in ${TOPOLOGIES:-$(natlab/natlab.sh list | awk '{ print $1 }') proxy}; do
  beside "$s"
done
if [ -z "${TOPOLOGIES:-}" ]; then
  for s in easy-easy easy-easy-rst easy-easy-open fwrst-fwrst; do
    DELAY=0 TAG=" (near)" SDELAY=20 SJITTER=10 RUNS=$NEAR beside $s
  done
  DELAY=0 TAG=" (server 500 ms away)" SDELAY=250 beside easy-easy
fi
columns=()
for name in muster pion libp2p; do [ ! -f "$(file $name)" ] || columns+=("$name:$(file $name)"); done
busy() { awk -F'"cpu_wait":' 'NF > 1 { s += $2 + 0; n++ } END { printf "%.0f", n ? 100 * s / n : 0 }' "$@"; }
version() { (cd bench/reach && go list -m -f '{{ .Path }} {{ .Version }}' "$@") | paste -sd, | sed 's/,/, /g'; }
echo
{
  natlab/tools/bin/table "${columns[@]}"
  echo
  echo "$(date -u +%F), $(uname -s) $(uname -r | cut -d. -f1,2), $(nproc) processors; $(go version | cut -d' ' -f3); $(version github.com/pion/webrtc/v4 github.com/pion/ice/v4 github.com/pion/turn/v5 github.com/libp2p/go-libp2p). Something waited for a processor $(busy "$out"/natlab-{beside,pion,libp2p}.json 2>/dev/null) % of the time."
} | tee "$out/natlab-others.md"
