#!/usr/bin/env bash
# Makes the virtual environment with everything pinned. Needs python3 and, on a machine without the
# venv module, apt-get. Does nothing, and says so, when it has run for the same pins before.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
stamp="$venv/.installed-$(cat setup.cfg pyproject.toml constraints.txt bin/setup.sh | sha256sum | cut -c1-16)"

if [ -e "$stamp" ]; then
    echo "set-up: nothing to install ($venv is up to date)"
    exit 0
fi

python=${LONGATTN_PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "set-up: Python 3.11 or newer is needed, $python is $("$python" --version)" >&2
    exit 2
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "set-up: installing python3-venv"
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq && $sudo apt-get install -y -qq python3-venv
fi

echo "set-up: making $venv"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip=("$venv/bin/pip" install --quiet --disable-pip-version-check)
# torch first and by itself, at its pin: left to the resolver, another package may take a newer one.
"${pip[@]}" "$(grep '^torch==' constraints.txt)"
"${pip[@]}" -c constraints.txt -e '.[test]'
# It pins older packages than ours and works with these; only the export tests read with it.
"${pip[@]}" --no-deps "$(grep '^mosaicml-streaming==' constraints.txt)"
rm -f "$venv"/.installed-*
touch "$stamp"
echo "set-up: done"
