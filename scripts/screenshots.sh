#!/bin/sh
# Takes the README's pictures of the dashboard anew, from the demo: docs/screenshots/*.png.
#
# Needs cargo, Node.js with npm, and Chromium (CHROMIUM names another one).
set -eu
cd "$(dirname "$0")/.."

modules=$PWD/target/screenshots
mkdir -p "$modules" docs/screenshots
cp tests/browser/package.json tests/browser/package-lock.json "$modules"
(cd "$modules" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null)
cargo build --quiet --locked

log=$modules/demo.log
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
node tests/browser/screenshots.js "$modules" "${CHROMIUM:-$(command -v chromium)}" "$address" docs/screenshots
ls -l docs/screenshots
