#!/bin/sh
# Builds the release binary for the Linux images of Azure Functions, and packages it: a folder, and a zip beside it.
#
#   scripts/package.sh [DIR]      DIR defaults to dist/permafresh
#
# The images differ in their C library, so it is linked against the oldest of them, Debian 11's: zig knows every glibc by
# its version, and cargo-zigbuild makes cargo link with it. Both come as Python packages into a folder of their own under
# target/; nothing is installed on the machine. Needs cargo and python3 with venv.
set -eu
cd "$(dirname "$0")/.."

out=${1:-dist/permafresh}
glibc=2.31
target=x86_64-unknown-linux-gnu
tools=target/package-tools

if ! "$tools/bin/cargo-zigbuild" --version >/dev/null 2>&1; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check ziglang==0.13.0 cargo-zigbuild==0.24.0
fi
# cargo finds `cargo zigbuild`, and that finds zig, beside each other.
PATH=$PWD/$tools/bin:$PATH
export PATH
# The same sources give the same binary wherever they lie: no folder of this machine is written into it.
RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=/permafresh --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
export RUSTFLAGS
rustup target list --installed 2>/dev/null | grep -qx "$target" || rustup target add "$target"
cargo zigbuild --release --locked --bin permafresh --target "$target.$glibc"

# Packaged by itself where it runs, by a build for this machine elsewhere.
binary=target/$target/release/permafresh
if [ "$(uname -sm)" = 'Linux x86_64' ]; then
    "$binary" package --force --out "$out"
else
    cargo run --quiet --locked -- package --force --out "$out" --binary "$binary"
fi
