#!/usr/bin/env bash
# Makes the virtual environment with everything pinned. Needs python3 and, on a machine without the
# venv module, apt-get. Does nothing, and says so, when it has run for the same pins before.
# LONGATTN_TORCH chooses another torch than PyPI's CUDA build (4 GB with its libraries on Linux):
#   cpu               PyTorch's CPU build, from the index that uv knows for it
#   a URL or a file   an index that has it, or a wheel
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
torch=${LONGATTN_TORCH:-}
pins=(setup.cfg pyproject.toml constraints.txt requirements-no-deps.txt bin/setup.sh bin/uv.sh)
stamp="$venv/.installed-$( (cat "${pins[@]}"; echo "$torch") | sha256sum | cut -c1-16)"

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
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)

. bin/uv.sh
install=("${pip[@]}")
uv=
if uv=$(command -v uv) || { "${pip[@]}" "$(grep '^uv==' constraints.txt)" 2>/dev/null && uv="$venv/bin/uv"; }; then
    uv_reads_pip_settings "$venv/bin/python"
    install=("$uv" pip install --quiet --python "$venv/bin/python")
fi

case "$torch" in
    "") echo "set-up: downloading some 4 GB, most of it torch with CUDA (LONGATTN_TORCH=cpu for the small one)" ;;
    cpu)
        [ -n "${uv:-}" ] || { echo "set-up: LONGATTN_TORCH=cpu needs uv; name an index or a wheel instead" >&2; exit 2; }
        install+=(--torch-backend cpu)
        ;;
    *://*) "${install[@]}" --index-url "$torch" "$(grep '^torch==' constraints.txt)" ;;
    *) "${install[@]}" "$torch" ;;
esac
"${install[@]}" --constraint constraints.txt --editable '.[test]'
"${install[@]}" --no-deps --requirement requirements-no-deps.txt
rm -f "$venv"/.installed-*
touch "$stamp"
echo "set-up: done"
