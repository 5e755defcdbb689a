#!/usr/bin/env bash
# All tests: the project's, then those of the DAGs in Airflow's own venv. The second are run whatever
# the first came to, and the end says what became of both. With arguments for pytest, it is that alone.
set -uo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
[ $# -le 1 ] || exec "$venv/bin/python" -m pytest "${@:2}"

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
"$venv/bin/python" bin/fetch_jars.py || [ $? = 69 ] || exit # 69: no Maven; those tests are skipped
export OMP_NUM_THREADS=1 # two workers: threads of their own would wait for each other, spinning
"$venv/bin/python" -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
    --hypothesis-profile ci --durations 20 2>&1 | tee "$logs/project"
project=$?
bin/test_airflow.sh 2>&1 | tee "$logs/airflow"
airflow=$?

echo
echo "project: $(tail -n 1 "$logs/project")"
echo "airflow: $(tail -n 1 "$logs/airflow")"
[ $airflow = 69 ] && airflow=0 # no Airflow to be had: its last line says so
[ $project = 0 ] && [ $airflow = 0 ]
