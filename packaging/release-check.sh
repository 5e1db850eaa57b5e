#!/bin/sh
# Builds a release twice, from two places with two caches of nothing but the
# module cache in common, and fails if one byte differs. It needs git, GNU tar
# and some minutes; TARGETS limits it.
set -eu
cd "$(dirname "$0")/.."
if ! tar --version 2>/dev/null | grep -q GNU; then
	echo "skip: no GNU tar"
	exit 0
fi
TARGETS=${TARGETS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 freebsd/amd64}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
COMMIT=$(git rev-parse HEAD)
VERSION=${VERSION:-$(git describe --tags --always)}
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
GOMODCACHE=$(go env GOMODCACHE)
export VERSION SOURCE_DATE_EPOCH TARGETS GOMODCACHE
for n in one two-with-a-longer-name; do
	git clone -q --no-hardlinks . "$work/$n"
	git -C "$work/$n" checkout -q "$COMMIT"
	(cd "$work/$n" && GOCACHE="$work/cache-$n" DIST="$work/dist-$n" packaging/release.sh > /dev/null)
	rm -rf "$work/cache-$n"
done
diff "$work/dist-one/SHA256SUMS" "$work/dist-two-with-a-longer-name/SHA256SUMS"
(cd "$work/dist-one" && sha256sum -c --quiet SHA256SUMS)
echo "$(wc -l < "$work/dist-one/SHA256SUMS") archives, equal in two builds"
