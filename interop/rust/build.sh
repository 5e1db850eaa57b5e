#!/bin/sh
# Builds the Rust peers into $1/rust-rendezvous and $1/rust-pubsub with one
# compiler at a time and at low priority: libp2p is some 250 crates.
set -eu
out=$1
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-target}
CARGO_BUILD_JOBS=${CARGO_BUILD_JOBS:-1} nice -n 19 cargo build --release --locked --target-dir "$target"
mkdir -p "$out"
cp "$target/release/rust-rendezvous" "$target/release/rust-pubsub" "$out"
