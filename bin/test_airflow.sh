#!/usr/bin/env bash
# Tests of airflow_dags/ in a venv of their own: pyspark and Airflow's pyspark-client both own the
# folder `pyspark`. The jobs themselves run in the project's venv, by spark-submit.
# Exits 69 where no index has Airflow; its last line then says why.
set -euo pipefail
cd "$(dirname "$0")/.."
. bin/uv.sh
venv=.venv-airflow
stamp="$venv/.installed-$(sha256sum constraints-airflow.txt | cut -c1-16)"

with_uv() {
    [ -x .venv/bin/uv ] || return
    (
        uv_reads_pip_settings "$venv/bin/python"
        .venv/bin/uv pip install --quiet --python "$venv/bin/python" -c constraints-airflow.txt "$@"
    )
}

install() {
    echo "test-airflow: installing Airflow into $venv"
    [ -x "$venv/bin/python" ] || "${LONGATTN_PYTHON:-python3}" -m venv "$venv" || return
    local packages=(apache-airflow apache-airflow-providers-apache-spark)
    packages+=(apache-airflow-providers-databricks pytest)
    with_uv "${packages[@]}" || "$venv/bin/pip" install --quiet --disable-pip-version-check \
        -c constraints-airflow.txt "${packages[@]}" || return
    rm -f "$venv"/.installed-*
    touch "$stamp"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ ! -e "$stamp" ] && ! install 2>&1 | tee "$log"; then
    reason=$(grep -m 1 -E '^(WARNING: Retrying|ERROR)' "$log" || tail -n 1 "$log")
    if "$venv/bin/pip" index versions apache-airflow >/dev/null 2>&1; then
        echo "FAILED: the index has Airflow, and it could not be installed: $reason"
        exit 1
    fi
    echo "SKIPPED, all tests of the DAGs: Airflow is not to be had here: $reason"
    exit 69
fi
[ -n "${DIST_IS_BUILT:-}" ] || bin/dist.sh .venv
rm -f "$log"
# exec: who interrupts this process interrupts pytest, which then ends the servers that it started.
# The conftest above these tests needs the project's packages, which this venv has not.
exec timeout 2400 "$venv/bin/python" -m pytest -p no:cacheprovider -o addopts= \
    --confcutdir tests/surfaces/airflow --durations=5 "${@:-tests/surfaces/airflow}"
