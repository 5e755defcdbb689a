#!/usr/bin/env bash
# All tests: the project's, and those of the DAGs in Airflow's own venv. The second wait for servers and
# for Java much of their time, so they run beside the first where there is memory for both, and after
# them elsewhere; the end says what became of both. With arguments for pytest, it is that alone.
set -uo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
[ $# -le 1 ] || exec "$venv/bin/python" -m pytest "${@:2}"

logs=$(mktemp -d)
beside= # the process of Airflow's tests, while they run beside the others
trap '[ -z "$beside" ] || { kill -INT "$beside"; wait "$beside"; }; rm -rf "$logs"' EXIT
"$venv/bin/python" bin/fetch_jars.py || [ $? = 69 ] || exit # 69: no Maven; those tests are skipped
bin/dist.sh "$venv" || exit
# It leaves an archive of Spark's classes behind: with that each other Java starts in half of the time.
"$venv/bin/python" -c 'from longattn.etl import config, session
session.get_spark(config.SparkConfig()).range(1).count()' || exit
export DIST_IS_BUILT=1   # or one of the two would build it while the other reads it
export OMP_NUM_THREADS=1 # two workers: threads of their own would wait for each other, spinning

has_memory_for_both() { # 14 GB; two workers with what they start take 8
    awk '$1 == "MemAvailable:" { exit !($2 > 14e6) }' /proc/meminfo 2>/dev/null
}

if has_memory_for_both; then
    set -m # in a group of its own, which an interrupt reaches through the trap
    bin/test_airflow.sh >"$logs/airflow" 2>&1 &
    beside=$!
    set +m
fi
"$venv/bin/python" -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
    --hypothesis-profile ci --durations 20 2>&1 | tee "$logs/project"
project=$?
if [ "$beside" ]; then
    wait "$beside"
    airflow=$?
    beside=
    cat "$logs/airflow"
else
    bin/test_airflow.sh 2>&1 | tee "$logs/airflow"
    airflow=$?
fi

echo
echo "project: $(tail -n 1 "$logs/project")"
echo "airflow: $(tail -n 1 "$logs/airflow")"
[ $airflow = 69 ] && airflow=0 # no Airflow to be had: its last line says so
[ $project = 0 ] && [ $airflow = 0 ]
