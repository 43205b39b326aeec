#!/bin/sh
# Takes the README's pictures of the dashboard anew, from the demo: docs/screenshots/*.png.
#
# Needs cargo and Node.js with npm. Chromium is the one that CHROMIUM names, that is installed, or that npm has.
set -eu
cd "$(dirname "$0")/.."

modules=$PWD/target/screenshots
mkdir -p "$modules" docs/screenshots
cp tests/browser/package.json tests/browser/package-lock.json "$modules"
install() {
    (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null)
}
install "$modules"
browser=${CHROMIUM:-$(command -v chromium || true)}
if [ -z "$browser" ]; then
    mkdir -p "$modules/carried"
    cp tests/carried-browser/package.json tests/carried-browser/package-lock.json "$modules/carried"
    install "$modules/carried"
    browser=$(node tests/carried-browser/unpack.js "$modules/carried")
fi
cargo build --quiet --locked

log=$modules/demo.log
: >"$log"
target/debug/permafresh demo --keep --deployments 300 >/dev/null 2>"$log" &
demo=$!
trap 'kill -INT "$demo"; wait "$demo" || true' EXIT
until grep -q '^  its key' "$log"; do
    kill -0 "$demo" || { cat "$log" >&2; exit 1; }
    sleep 0.1
done
address=$(sed -n 's/^  dashboard  *//p' "$log")
DASHBOARD_KEY=$(sed -n 's/^  its key  *//p' "$log")
export DASHBOARD_KEY
node tests/browser/screenshots.js "$modules" "$browser" "$address" docs/screenshots
ls -l docs/screenshots
