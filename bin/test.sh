#!/usr/bin/env bash
# All tests: pure ones on every core, then Spark ones in one process, since each session is a JVM.
set -uo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
"$venv/bin/python" -m pytest "${@:2}"
