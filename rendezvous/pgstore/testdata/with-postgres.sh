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

# The newest with a server: the client's package has such a directory too.
find_bin() { ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1 | sed 's,/initdb$,,'; }

bin=$(find_bin)
if [ -z "$bin" ]; then
	echo "with-postgres: installing the package postgresql" >&2
	sudo=
	[ "$(id -u)" -eq 0 ] || sudo=sudo
	# Another apt-get may hold the lock, a mirror may be away: the lists that
	# are there may do.
	apt="apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3"
	$sudo $apt update >&2 || echo "with-postgres: apt-get update failed, going on" >&2
	# No cluster of the distribution's: ours is the only server we start.
	$sudo mkdir -p /etc/postgresql-common/createcluster.d
	echo "create_main_cluster = false" | $sudo tee /etc/postgresql-common/createcluster.d/muster.conf >/dev/null
	$sudo env DEBIAN_FRONTEND=noninteractive $apt install -y --no-install-recommends postgresql >&2
	bin=$(find_bin)
fi

# Not in TMPDIR: a socket's path has at most 107 bytes, and the user "postgres"
# must be able to come here.
dir=$(mktemp -d /tmp/muster-pg.XXXXXX)
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
start) exec $as "$bin/pg_ctl" -s -w -t 300 -D "$dir/data" -l "$dir/log" -o "-k $dir -c listen_addresses= -c max_connections=200 -c fsync=${PG_FSYNC:-off}" start ;;
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
