#!/bin/sh
# with-small-disk.sh CMD...: run CMD with MUSTER_TEST_SMALL_DISK naming an empty
# file system of 8 MiB. It is mounted in a namespace of CMD's own, which needs
# root; without it CMD runs without the variable, and says what it skips.
set -eu
if [ "$(id -u)" -ne 0 ] || ! unshare -m true 2>/dev/null; then
	echo "with-small-disk: not root, no small disk" >&2
	exec "$@"
fi
dir=$(mktemp -d)
trap 'rmdir "$dir"' EXIT
unshare -m sh -c '
	dir=$1
	shift
	mount -t tmpfs -o size=8m muster "$dir"
	MUSTER_TEST_SMALL_DISK=$dir "$@"
' sh "$dir" "$@"
