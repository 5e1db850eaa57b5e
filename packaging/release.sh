#!/bin/sh
# Builds release archives into dist/ such that everybody who builds the same
# commit gets the same bytes: no path, no time and no user of this machine is
# in them. 'make release' runs this; 'make release-check' runs it twice.
#
#   VERSION              what 'muster version' says (default: git describe)
#   SOURCE_DATE_EPOCH    the files' time (default: the commit's)
#   DIST                 where to (default: dist)
#   TARGETS              what for (default: all below)
set -eu
cd "$(dirname "$0")/.."

VERSION=${VERSION:-$(git describe --tags --always --dirty)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
DIST=${DIST:-dist}
TARGETS=${TARGETS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 freebsd/amd64}
export SOURCE_DATE_EPOCH CGO_ENABLED=0 LC_ALL=C TZ=UTC
umask 022

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
rm -rf "$DIST"
mkdir -p "$DIST"

build() { # os arch file
	GOOS=$1 GOARCH=$2 GOFLAGS= GOAMD64=v1 GOARM64=v8.0 \
		go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$VERSION" -o "$3" ./cmd/muster
}

# Man pages and completions are written by the program itself, so that they are
# of the version that they come with.
build "$(go env GOHOSTOS)" "$(go env GOHOSTARCH)" "$stage/muster-host"
"$stage/muster-host" version | grep -qF "muster $VERSION " || { echo "the binary does not say $VERSION" >&2; exit 1; }
"$stage/muster-host" man "$stage/man" 2>/dev/null
gzip -9n "$stage"/man/*.1
mkdir "$stage/completions"
for shell in bash zsh fish powershell; do
	"$stage/muster-host" completion $shell > "$stage/completions/muster.$shell"
done

for target in $TARGETS; do
	os=${target%/*} arch=${target#*/}
	name=muster-$VERSION-$os-$arch
	dir=$stage/$name
	mkdir "$dir"
	exe=muster
	[ "$os" = windows ] && exe=muster.exe
	echo "build $target" >&2
	build "$os" "$arch" "$dir/$exe"
	cp README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE NOTICE "$dir"
	cp admin/page/vendor/uplot.LICENSE "$dir/LICENSE-uPlot"
	cp -r "$stage/man" "$stage/completions" "$dir"
	if [ "$os" = linux ]; then
		cp -r packaging/systemd packaging/prometheus packaging/grafana "$dir"
	fi
	find "$dir" -type d -exec chmod 755 {} +
	find "$dir" -type f ! -name "$exe" -exec chmod 644 {} +
	find "$dir" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
	if [ "$os" = windows ] && command -v zip >/dev/null; then
		(cd "$stage" && find "$name" | sort | zip -qX "$name.zip" -@)
		mv "$stage/$name.zip" "$DIST"
	else
		tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner --format=ustar --mtime="@$SOURCE_DATE_EPOCH" -cf - "$name" |
			gzip -9n > "$DIST/$name.tar.gz"
	fi
	rm -rf "$dir"
done
(cd "$DIST" && sha256sum -- * > "$stage/SHA256SUMS" && mv "$stage/SHA256SUMS" .)
cat "$DIST/SHA256SUMS"
