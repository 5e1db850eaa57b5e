#!/bin/sh
# with-postgres.sh CMD...: run CMD beside a throw-away PostgreSQL server.
#
# The server is the one of Debian's package "postgresql", installed if it is
# missing. It gets a cluster of its own in a temporary directory, listens on a
# unix socket there and on no port, runs as the user "postgres" when we are root
# (PostgreSQL refuses root), and is stopped and removed when CMD ends.
#
# It does not wait for the disk (a crash of the server loses nothing all the
# same, one of the machine is not tested here) unless PG_FSYNC=on is set, as for
# benchmarks.
#
# CMD finds it by MUSTER_TEST_POSTGRES (a URL) and can stop and start it with
# "$MUSTER_TEST_PG_CTL stop|start" (a script in that directory).
set -eu

find_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }

bin=$(find_bin)
if [ -z "$bin" ]; then
	echo "with-postgres: installing the package postgresql" >&2
	sudo=
	[ "$(id -u)" -eq 0 ] || sudo=sudo
	$sudo apt-get update -qq >&2
	# No cluster of the distribution's: ours is the only server we start.
	$sudo mkdir -p /etc/postgresql-common/createcluster.d
	echo "create_main_cluster = false" | $sudo tee /etc/postgresql-common/createcluster.d/muster.conf >/dev/null
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends postgresql >&2
	bin=$(find_bin)
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/muster-pg.XXXXXX")
chmod 755 "$dir"
as=
if [ "$(id -u)" -eq 0 ]; then
	chown postgres "$dir"
	as="runuser -u postgres --"
fi

cat >"$dir/ctl" <<CTL
#!/bin/sh
# stop is a crash: no checkpoint, clients are cut off.
set -eu
cd "$dir"
case "\$1" in
start) exec $as "$bin/pg_ctl" -s -w -t 30 -D "$dir/data" -l "$dir/log" -o "-k $dir -c listen_addresses= -c max_connections=200 -c fsync=${PG_FSYNC:-off}" start ;;
stop) exec $as "$bin/pg_ctl" -s -w -m immediate -D "$dir/data" stop ;;
esac
CTL
chmod 755 "$dir/ctl"

cleanup() {
	status=$?
	trap - EXIT INT TERM
	if [ "$status" -ne 0 ] && [ -n "${MUSTER_TEST_PG_LOG:-}" ]; then tail -n 50 "$dir/log" >&2; fi
	"$dir/ctl" stop >/dev/null 2>&1 || true
	rm -rf "$dir"
	exit "$status"
}
trap cleanup EXIT INT TERM

(cd "$dir" && $as "$bin/initdb" -D "$dir/data" -A trust -U muster -E UTF8 --locale=C.UTF-8 >/dev/null)
"$dir/ctl" start
MUSTER_TEST_POSTGRES="postgres://muster@/postgres?host=$dir" MUSTER_TEST_PG_CTL="$dir/ctl" "$@"
