# Driver and executors of score on GPUs.
#   make dist && docker build -f docker/cuda.Dockerfile -t longattn:cuda .
# As docker/cpu.Dockerfile, but with PyPI's torch, which brings the CUDA libraries; the node brings
# the driver, through NVIDIA's device plugin. Linted, never built by the tests.
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
RUN pip install --no-cache-dir -c /tmp/longattn/constraints.txt "$(ls /tmp/longattn/*.whl)[models]" \
    && rm -r /tmp/longattn
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY dist/submit.py bin/gpu_discovery.sh /opt/longattn/bin/

USER 185
WORKDIR /opt/spark/work-dir
ENTRYPOINT ["/opt/entrypoint.sh"]
