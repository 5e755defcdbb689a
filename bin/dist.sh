#!/usr/bin/env bash
# Builds dist/longattn_spark-*.whl and, from the same bytes, dist/longattn.zip for spark-submit:
# Spark's Python workers import from .zip, .egg and .jar files, never from a .whl.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
mkdir -p dist
rm -rf dist/longattn_spark-*.whl dist/longattn.zip build  # a stale build/ would be packed again
"$venv/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
rm -rf build
cp dist/longattn_spark-*.whl dist/longattn.zip
cp bin/submit.py dist/submit.py
ls -1 dist/longattn_spark-*.whl dist/longattn.zip dist/submit.py
