# Driver and executors of every job, on CPUs.
#   make dist && docker build -f docker/cpu.Dockerfile -t longattn:cpu .
# Spark and its entrypoint, which Kubernetes and the Spark operator call, come from Spark's image;
# Python is one that the pins were made for. Linted, never built by the tests.
FROM apache/spark:4.2.0-scala2.13-java17-ubuntu AS spark

FROM python:3.11-slim-bookworm
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        gosu libnss-wrapper openjdk-17-jre-headless procps tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 185 --gid 0 --create-home spark
ENV SPARK_HOME=/opt/spark PATH=/opt/spark/bin:$PATH PYSPARK_PYTHON=/usr/local/bin/python
COPY --from=spark /opt/entrypoint.sh /opt/entrypoint.sh
COPY --from=spark /opt/spark /opt/spark
COPY constraints.txt dist/longattn_spark-*.whl /tmp/longattn/
# torch's +cpu build wins where both indexes have one; PyPI's is a CUDA build of several GB.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        -c /tmp/longattn/constraints.txt "$(ls /tmp/longattn/*.whl)[models]" \
    && rm -r /tmp/longattn
COPY dist/submit.py bin/gpu_discovery.sh /opt/longattn/bin/

USER 185
WORKDIR /opt/spark/work-dir
ENTRYPOINT ["/opt/entrypoint.sh"]
