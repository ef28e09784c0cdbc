#!/usr/bin/env bash
# Trains on TPU slices of a GKE cluster by XPK (https://github.com/AI-Hypercomputer/xpk).
#
#   tools/launch/xpk.sh CLUSTER TPU_TYPE IMAGE --config configs/sd2.py:keyframes --workdir /mnt/shared/run
#   SLICES=4 NAME=stage-1 tools/launch/xpk.sh my-cluster v5p-256 gcr.io/my-project/gp-jax ...
#
# IMAGE holds this package (`pip install 'gp_jax[tpu]'`) and the config file. GP_JAX is the program there (by default
# gp-jax), COMMAND what it does (by default train; outpaint, evaluate and bench go as well). NAME is the workload's (by
# default gp-jax), by which `xpk workload delete` stops it: it saves and exits. A slice that is lost is started again,
# RESTARTS times (by default 10), and goes on where it saved.
set -euo pipefail
if (($# < 4)); then
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
cluster=$1 tpu_type=$2 image=$3
shift 3
printf -v command '%q ' "${GP_JAX:-gp-jax}" "${COMMAND:-train}" "$@" --coordinator auto
exec xpk workload create --cluster "$cluster" --workload "${NAME:-gp-jax}" --tpu-type "$tpu_type" \
  --num-slices "${SLICES:-1}" --docker-image "$image" --max-restarts "${RESTARTS:-10}" --command "$command"
