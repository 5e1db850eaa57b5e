#!/usr/bin/env bash
# Runs 'muster listen' and 'muster call' through every topology of natlab.sh: when
# the first byte arrives, when the path is direct, how long the stream stalls on
# the way there, which path it ends on. Then it breaks things in mid-transfer.
# Raw results go to bench/results/natlab-link*.json, the table to natlab-link.md.
#
#   RUNS=3      runs per topology
#   PART=all    table, faults, moves, names or all
#   ONLY=       these topologies only
#   MUSTER=     this binary, in place of one that is built
#
# Needs what run.sh needs, and says so when it skips.
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-3}; PART=${PART:-all}; ONLY=${ONLY:-}
out=$PWD/bench/results; mkdir -p "$out"
skip() { echo "natlab: skipped: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
for tool in ip nft ethtool ping; do command -v $tool >/dev/null || skip "$tool is not installed (Debian: iproute2 nftables ethtool iputils-ping)"; done
export NL=${NL:-nl}
ip netns add "$NL-try" 2>/dev/null && ip netns del "$NL-try" || skip "this kernel does not let us make network namespaces"

tmp=$(mktemp -d); trap 'natlab/natlab.sh down || true; rm -rf "$tmp"' EXIT
muster=${MUSTER:-$tmp/muster}
[ -n "${MUSTER:-}" ] || go build -trimpath -o "$muster" ./cmd/muster
(cd natlab/tools && go build -o bin/ ./...)

server() { ip netns exec "$NL-srv" "$muster" rdv serve --listen "[::]:8080" >"$tmp/server.log" 2>&1 & pid=$!; echo $pid >>"/tmp/natlab-$NL/pids"; sleep 0.4; }
probe() { # probe SCENARIO FLAGS...: in the topology that is up
  local s=$1 url; shift
  url=$(cat "$tmp/url")
  natlab/tools/bin/linkprobe -scenario "$s" -call-ns "$NL-a" -listen-ns "$NL-b" -srv-ns "$NL-srv" \
    -listen "$muster listen --json --server $url" -call "$muster call --json {ticket}" "$@"
}
up() { # up SCENARIO: the topology, and a server in it
  natlab/natlab.sh up "$1" >"$tmp/up" # what it leaves running holds its stdout
  sed -n 's/^up: .*(url \(.*\))$/\1/p' "$tmp/up" >"$tmp/url"
  unset HTTP_PROXY; [ "$1" != proxy ] || export HTTP_PROXY=http://20.0.0.10:3128
  server
}

# BBR, some machines' default, all but stops for 200 ms and a round trip every ten seconds
# to look for a shorter one, in any connection of TCP. That would be taken for a stall.
steady() {
  local ns; for ns in a b srv; do ip netns exec "$NL-$ns" sh -c 'cd /proc/sys/net/ipv4; ! grep -q bbr tcp_congestion_control || echo reno >tcp_congestion_control'; done
}

table() {
  local json=$out/natlab-link.json; : >"$json"
  for s in ${ONLY:-$(natlab/natlab.sh list | awk '{print $1}') proxy}; do
    DELAY=25 up "$s"
    probe "$s" -runs "$RUNS" >>"$json" || true
    natlab/natlab.sh down
  done
  natlab/tools/bin/linktable "$json" | tee "$out/natlab-link.md"
  # Beside the last results of the others: the table of the top README.
  natlab/tools/bin/table "+muster:$json" "rdv v0.0.6:$out/natlab-rdv.json" "pion/webrtc:$out/natlab-pion.json" \
    "go-libp2p:$out/natlab-libp2p.json" >"$out/natlab-compared.md"
}

faults() {
  local json=$out/natlab-link-faults.json; : >"$json"
  DELAY=25 up easy-easy; steady
  probe "100 MB across the switch" -runs 1 -bytes 100000000 >>"$json"
  # Whatever is not from or to the server dies on the way, unheard.
  probe "direct path cut" -runs 1 -bytes 60000000 -after 20000000 \
    -do "ip netns exec $NL-ra nft insert rule inet flt forw ip saddr != 20.0.0.10 ip daddr != 20.0.0.10 drop" >>"$json"
  natlab/natlab.sh down
  DELAY=0 up egress
  probe "relay restarted, 1 GB" -runs 1 -bytes 1000000000 -after 300000000 -limit 10m \
    -do "kill -9 $pid; sleep 1; exec ip netns exec $NL-srv setsid $muster rdv serve --listen [::]:8080 >$tmp/server2.log 2>&1 </dev/null & echo \$! >>/tmp/natlab-$NL/pids" >>"$json"
  natlab/natlab.sh down
}

# By name, through a point: 'muster serve' in place of the rdv server. first is from
# the start of the caller's process, dial_ms what it says itself.
names() {
  local json=$out/natlab-link-names.json s; : >"$json"
  "$muster" key new "$tmp/nas.key" >/dev/null
  for s in ${ONLY:-lan public-public easy-easy hard-hard egress}; do
    DELAY=25 EGRESS="8080, 4001" natlab/natlab.sh up "$s" >"$tmp/up"
    rm -rf "$tmp/point"; ip netns exec "$NL-srv" "$muster" serve --data-dir "$tmp/point" --relay-access open --i-know-this-is-an-open-relay \
      --discv5-listen "" >"$tmp/point.log" 2>&1 & echo $! >>"/tmp/natlab-$NL/pids"
    for _ in $(seq 100); do grep -q "is ready" "$tmp/point.log" && break; sleep 0.1; done
    local at; at=/ip4/20.0.0.10/tcp/4001/p2p/$(sed -n 's/^point \([^ ]*\) is ready.*/\1/p' "$tmp/point.log")
    natlab/tools/bin/linkprobe -scenario "$s" -runs "$RUNS" -ready 3 -call-ns "$NL-a" -listen-ns "$NL-b" -srv-ns "$NL-srv" \
      -listen "$muster listen --json --point $at --ns lab --name nas --key $tmp/nas.key" -call "$muster call --json --point $at lab/nas" >>"$json" || true
    natlab/natlab.sh down
  done
}

# Networks that change in mid-transfer. Each command ends when the network is
# there again; back_ms is from then on, and has to be at most 5000.
moves() {
  local json=$out/natlab-link-moves.json; : >"$json"
  local ra="ip netns exec $NL-ra" a="ip netns exec $NL-a" b="ip netns exec $NL-b"
  move() { # move NAME COMMAND
    [ -z "$ONLY" ] || [[ $1 == *$ONLY* ]] || return 0
    for _ in $(seq "$RUNS"); do # a topology for each, as it is another one then
      DELAY=25 up easy-easy; steady
      probe "$1" -runs 1 -bytes 60000000 -after 20000000 -do "$2" >>"$json" || true
      natlab/natlab.sh down
    done
  }
  readdress() { echo "$1 ip addr del $2.100/24 dev eth0; $1 ip addr add $2.150/24 dev eth0; $1 ip route add default via $2.1"; }
  move "the caller's address changes" "$(readdress "$a" 192.168.1)"
  move "the listener's address changes" "$(readdress "$b" 192.168.2)"
  move "the caller's address changes after 20 s" "$a ip addr del 192.168.1.100/24 dev eth0; sleep 20; $a ip addr add 192.168.1.150/24 dev eth0; $a ip route add default via 192.168.1.1"
  for s in 2 20; do
    move "the caller's cable is out for $s s" "$ra ip link set lan down; sleep $s; $ra ip link set lan up"
    move "the router lets nothing through for $s s" "$ra nft 'add table inet cut; add chain inet cut c { type filter hook forward priority -10; policy drop; }'; sleep $s; $ra nft delete table inet cut"
  done
  move "the router gets another address" "$ra ip addr del 20.0.1.1/24 dev wan; $ra ip addr add 20.0.1.77/24 dev wan; $ra ip route add default via 20.0.1.254"
}

case $PART in
  table) table;;
  faults) faults;;
  moves) moves;;
  names) names;;
  all) table; faults; moves; names;;
  *) echo "PART is table, faults, moves, names or all" >&2; exit 2;;
esac
