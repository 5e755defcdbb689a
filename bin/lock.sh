#!/usr/bin/env bash
# Resolves constraints.txt once for every platform and Python that setup.cfg names (uv's universal
# resolver). Pins that stand already stay unless they no longer fit; `--upgrade` renews all of them,
# `--check` fails when the file is not what the resolver would write; without an index it says so.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
uv=$(command -v uv || echo "$venv/bin/uv")
out=constraints.txt
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
cp "$out" "$fresh/$out"

options=()
[ "${1:-}" = --upgrade ] && options=(--upgrade)
resolve() {
    "$uv" pip compile setup.cfg --universal --extra test --python-version 3.11 --quiet \
        --no-annotate --constraints constraints.in ${options[@]+"${options[@]}"} \
        --custom-compile-command "make lock" --output-file "$fresh/$out"
}
if ! resolve >/dev/null 2>"$fresh/error"; then
    cat "$fresh/error" >&2
    [ "${1:-}" = --check ] && grep -qiE 'failed to fetch|error sending request|dns error' "$fresh/error" || exit 1
    echo "lock: no package index within reach, constraints.txt was not checked"
    exit 0
fi

if [ "${1:-}" = --check ]; then
    diff -u "$out" "$fresh/$out" || { echo "lock: constraints.txt is stale, run make lock" >&2; exit 1; }
    exit 0
fi
cp "$fresh/$out" "$out"
echo "lock: $(grep -c == "$out") packages pinned"
