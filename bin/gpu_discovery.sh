#!/bin/sh
# Prints the GPUs of this host as Spark wants to hear it: {"name": "gpu", "addresses": ["0", "1"]}.
# Give its path as spark.{driver,executor,worker}.resource.gpu.discoveryScript. Where nvidia-smi is
# missing or finds nothing the list is empty, and Spark says that too few GPUs were found.
# LONGATTN_GPUS="0,1" names them instead, for a host that must not offer all.
gpus=${LONGATTN_GPUS-$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | paste -sd, -)}
quoted=$(printf '%s' "$gpus" | tr -d ' ' | sed 's/[^,][^,]*/"&"/g')
printf '{"name": "gpu", "addresses": [%s]}\n' "$quoted"
