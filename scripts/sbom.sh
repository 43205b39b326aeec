#!/bin/sh
# Writes the software bill of materials of the release binary: CycloneDX 1.5, JSON, every crate that is linked into it or
# runs while it is built, with version, checksum and licence.
#
#   scripts/sbom.sh [FILE]      FILE defaults to dist/permafresh.cdx.json
#
# The same commit gives the same bytes: its time is the commit's, and the folder it was made in is not told. The tool is
# built into a folder of its own under target/, once, in about a minute.
set -eu
cd "$(dirname "$0")/.."

out=${1:-dist/permafresh.cdx.json}
version=0.5.9
target=x86_64-unknown-linux-gnu
tools=target/sbom-tools

if [ "$("$tools/bin/cargo-cyclonedx" cyclonedx --version 2>/dev/null)" != "cargo-cyclonedx-cyclonedx $version" ]; then
    cargo install cargo-cyclonedx --version "$version" --locked --debug --quiet --root "$tools"
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
PATH=$PWD/$tools/bin:$PATH cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$target" \
    --override-filename permafresh-sbom
mkdir -p "$(dirname "$out")"
sed "s|file://$PWD|file:///permafresh|g" permafresh-sbom.json >"$out"
rm permafresh-sbom.json
printf '%s: %s crates\n' "$out" "$(grep -c '"bom-ref": "registry' "$out")"
