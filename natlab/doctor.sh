#!/usr/bin/env bash
# Runs 'muster netcheck' and 'muster doctor' behind every kind of NAT of natlab.sh,
# against a point on the other side, and holds what they say to what the topology
# is. Prints a table; exit 1 if a verdict is wrong.
#
#   ONLY=       these topologies only
#   MUSTER=     this binary, in place of one that is built
#
# The kind of a NAT takes two places to look from: a point alone is two, its own
# port and its rdv server, if this machine reaches both by IPv4.
#
# Needs what run.sh needs, and says so when it skips.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { echo "natlab: skipped: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
for tool in ip nft ethtool ping; do command -v $tool >/dev/null || skip "$tool is not installed (Debian: iproute2 nftables ethtool iputils-ping)"; done
export NL=${NL:-nd}
ip netns add "$NL-try" 2>/dev/null && ip netns del "$NL-try" || skip "this kernel does not let us make network namespaces"

tmp=$(mktemp -d); trap 'natlab/natlab.sh down || true; rm -rf "$tmp"' EXIT
muster=${MUSTER:-$tmp/muster}
[ -n "${MUSTER:-}" ] || go build -trimpath -o "$muster" ./cmd/muster
export EGRESS="8080, 8081, 4001"

# What the client in namespace a has: kind of NAT, IPv4, IPv6, relay.
expected() { case $1 in
  public-public|fw-fw|fwrst-fwrst) echo "none true false true";;
  lan|easy-public|easy-easy-rst|easy-easy-open|shift-shift|fullcone-hard|cgn-cgn|cgn-hairpin|udpblock|egress) echo "endpoint-independent true false true";;
  hard-easy|cgnhard-easy) echo "endpoint-dependent true false true";;
  v6fw-hard) echo "endpoint-dependent true true true";;
  v6only) echo "unknown false true true";;
  *) echo "? ? ? ?";;
  esac; }
field() { grep -oE "\"$1\":(\"[a-z-]*\"|true|false)" "$tmp/report" | head -1 | sed 's/.*://; s/"//g'; }

wrong=0
printf '%-16s %-10s %-46s %s\n' topology "looks from" "says (nat ipv4 ipv6 relay)" ""
for s in ${ONLY:-public-public fw-fw fwrst-fwrst lan easy-public easy-easy-rst easy-easy-open shift-shift fullcone-hard hard-easy cgn-cgn cgn-hairpin cgnhard-easy udpblock egress v6fw-hard v6only}; do
  if ! natlab/natlab.sh up "$s" >"$tmp/up" 2>&1; then
    printf '%-16s could not be built:\n' "$s"; cat "$tmp/up"; wrong=1; natlab/natlab.sh down || true
    continue
  fi
  # The point is reached by IPv4 and IPv6 where the client has both.
  ip netns exec "$NL-srv" "$muster" serve --data-dir "$tmp/data-$s" --store memory --discv5=false --admin '' --http ':8080' \
    --relay-access open --i-know-this-is-an-open-relay >"$tmp/server" 2>"$tmp/server.log" &
  echo $! >>"/tmp/natlab-$NL/pids"
  ip netns exec "$NL-srv" "$muster" rdv serve --listen :8081 >"$tmp/second" 2>&1 & # another place to look from
  echo $! >>"/tmp/natlab-$NL/pids"
  for _ in $(seq 100); do [ -s "$tmp/server" ] && [ -s "$tmp/second" ] && break; sleep 0.1; done
  id=$(sed 's,.*/p2p/,,' "$tmp/server")
  v4=20.0.0.10; v6=2a0a:1::10; point=() servers=()
  [ "$s" = v6only ] || { point+=(--point "/ip4/$v4/tcp/4001/p2p/$id"); servers+=(--server "http://$v4:8080" --server "http://$v4:8081"); }
  case $s in v6*) point+=(--point "/ip6/$v6/tcp/4001/p2p/$id"); servers+=(--server "http://[$v6]:8080");; esac
  want=$(expected "$s")
  ip netns exec "$NL-a" "$muster" netcheck --json "${point[@]}" "${servers[@]}" >"$tmp/report" 2>"$tmp/errs" || true
  got="$(field nat) $(field ipv4) $(field ipv6) $(field relay)"
  verdict=ok; [ "$got" = "$want" ] || { verdict="WRONG, want $want"; wrong=1; }
  printf '%-16s %-10s %-46s %s\n' "$s" all "$got" "$verdict"
  [ "$verdict" = ok ] || { cat "$tmp/report" "$tmp/errs"; }
  # From the point alone, which names its server.
  if ip netns exec "$NL-a" "$muster" doctor "${point[@]}" >"$tmp/doctor" 2>&1; then code=0; else code=$?; fi
  line=$(grep -E ' nat ' "$tmp/doctor" | head -1) || true
  printf '%-16s %-10s %s\n' "" point "exit $code: ${line:-says nothing of a NAT}"
  natlab/natlab.sh down || true
done
exit $wrong
