#!/usr/bin/env bash
# Trains on a Cloud TPU slice by gcloud, one process per host; jax finds the others by the TPU's own metadata.
#
#   tools/launch/tpu_vm.sh NAME ZONE --config configs/sd2.py:keyframes --workdir /mnt/shared/run
#   tools/launch/tpu_vm.sh NAME ZONE log            follows what host 0 says
#   tools/launch/tpu_vm.sh NAME ZONE stop           all save and exit
#
# The hosts need this package (`pip install 'gp_jax[tpu]'`), the config file, and a folder that all of them see. GP_JAX
# is the program there (by default gp-jax), COMMAND what it does (by default train; outpaint, evaluate and bench go as
# well). It goes on when this machine is switched off.
set -euo pipefail
if (($# < 3)); then
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
name=$1 zone=$2
shift 2

on_hosts() {
  gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker "$1" --command "$2"
}
case $1 in
  log) on_hosts 0 "tail -n 100 -F gp-jax.log" ;;
  stop) on_hosts all "kill \$(cat gp-jax.pid)" ;;
  *)
    printf -v command '%q ' "${GP_JAX:-gp-jax}" "${COMMAND:-train}" "$@" --coordinator auto
    on_hosts all "nohup $command </dev/null >>gp-jax.log 2>&1 & echo \$! >gp-jax.pid"
    ;;
esac
