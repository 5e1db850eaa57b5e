#!/usr/bin/env bash
# Four libp2p programs, each behind a NAT of its own, form a gossipsub mesh over
# links (package rdvtransport): none of them listens on any address, and each has
# to hear what the three others say. The program is examples/rdvtransport; a point
# ('muster serve') on the internet of the lab introduces and relays.
#
#   natlab/mesh.sh
#
# KINDS="easy easy-rst hard easy"   the NATs, as natlab.sh calls them (easy, easy-rst, easy-open, hard)
# DELAY=25                          one-way delay of each uplink in ms
# WAIT=20                           seconds for everybody to have heard everybody
#
# Needs root, iproute2, nftables, ethtool; it installs nothing, and says so when it skips.
skip() { echo "mesh: skipped: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
for tool in ip nft ethtool; do command -v $tool >/dev/null || skip "$tool is not installed (Debian: iproute2 nftables ethtool)"; done
NL=${NL:-nm}; DELAY=${DELAY:-25}; KINDS=${KINDS:-easy easy-rst hard easy}; WAIT=${WAIT:-20}
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=natlab.sh disable=SC1091
. natlab/natlab.sh list >/dev/null
ip netns add "$NL-try" 2>/dev/null && ip netns del "$NL-try" || skip "this kernel does not let us make network namespaces"
tools
dir=$(mktemp -d)
end() { for p in "${running[@]}"; do kill "$p" 2>/dev/null; done; down; rm -rf "$dir"; }
running=(); trap end EXIT
go build -o "$dir/muster" ./cmd/muster && go build -o "$dir/chat" ./examples/rdvtransport || exit 1

down; base; site=0
for kind in $KINDS; do
  site=$((site + 1)); mkns "p$site"; mkns "r$site"; wan $site "r$site"; lan "r$site" lan "p$site" "192.168.$site" 100
  case $kind in easy-rst) filter "r$site" rst;; easy-open) filter "r$site" open;; *) filter "r$site" drop;; esac
  nat "r$site" "$kind"
done

await() { # await FILE PATTERN: the first line that matches
  local line; for _ in $(seq 100); do line=$(grep -m1 "$2" "$1" 2>/dev/null) && { echo "$line"; return; }; sleep 0.1; done; die "no $2 in $1: $(cat "$1")"
}
ip netns exec "$NL-srv" "$dir/muster" serve --data-dir "$dir/point" --listen "/ip4/$SRV4/tcp/4001" --http "$SRV4:8080" \
  --admin "" --discv5=false --pubsub=false >"$dir/point.out" 2>"$dir/point.err" &
running+=($!)
point=$(await "$dir/point.out" /p2p/) || exit 1
"$dir/muster" token issue --data-dir "$dir/point" >"$dir/token" || exit 1

to=""; ids=(); i=0
for kind in $KINDS; do
  i=$((i + 1))
  (for k in $(seq $((WAIT * 2))); do echo "line $k of p$i"; sleep 0.5; done) |
    ip netns exec "$NL-p$i" "$dir/chat" -point "$point" -token-file "$dir/token" ${to:+-to "$to"} >"$dir/p$i.out" 2>"$dir/p$i.err" &
  running+=($!)
  to=$(await "$dir/p$i.out" '^12D3') || { cat "$dir/p$i.err"; exit 1; } # the next one joins this one: a chain
  ids+=("$to")
  echo "p$i behind a NAT of kind $kind is $to"
done
start=$(date +%s%N)
for _ in $(seq $((WAIT * 10))); do
  missing=""
  for i in $(seq ${#ids[@]}); do
    for j in $(seq ${#ids[@]}); do
      [ "$i" = "$j" ] || grep -q "^${ids[$((j - 1))]}: " "$dir/p$i.out" || missing+=" p$i<-p$j"
    done
  done
  [ -z "$missing" ] && break
  sleep 0.1
done
if [ -n "$missing" ]; then echo "mesh: not heard:$missing"; cat "$dir"/p*.err; exit 1; fi
echo "mesh: all ${#ids[@]} heard all others within $((($(date +%s%N) - start) / 1000000)) ms of the last one's start"
