#!/usr/bin/env bash
# Tests of airflow_dags/ in a venv of their own: pyspark and Airflow's pyspark-client both own the
# folder `pyspark`. The jobs themselves run in the project's venv, by spark-submit.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv-airflow
stamp="$venv/.installed-$(sha256sum constraints-airflow.txt | cut -c1-16)"

if [ ! -e "$stamp" ]; then
    echo "test-airflow: installing Airflow into $venv"
    [ -x "$venv/bin/python" ] || "${LONGATTN_PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -c constraints-airflow.txt \
        apache-airflow apache-airflow-providers-apache-spark apache-airflow-providers-databricks pytest
    rm -f "$venv"/.installed-*
    touch "$stamp"
fi
bin/dist.sh .venv
# The conftest above these tests needs the project's packages, which this venv has not.
exec timeout 1500 "$venv/bin/python" -m pytest -p no:cacheprovider -o addopts= \
    --confcutdir tests/surfaces/airflow --durations=0 "${@:-tests/surfaces/airflow}"
