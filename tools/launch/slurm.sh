#!/usr/bin/env bash
# Trains on a SLURM cluster of GPUs, one process per GPU; jax finds the others by SLURM's environment.
#
#   sbatch --nodes 4 --gpus-per-node 8 --ntasks-per-node 8 tools/launch/slurm.sh \
#     --config configs/sd2.py:keyframes --workdir /shared/run
#   sbatch --array 1-6%1 ...                        six slots of time, one after the other
#
# Three minutes before a slot ends the processes save and exit; the next slot goes on there. Once training is complete,
# a further slot ends at once. GP_JAX is the program (by default gp-jax), COMMAND what it does (by default train;
# outpaint, evaluate and bench go as well).
#SBATCH --job-name=gp-jax
#SBATCH --output=gp-jax-%j.log
#SBATCH --signal=TERM@180
#SBATCH --requeue
set -euo pipefail
if (($# < 1)); then
  sed -n '2,/^#SBATCH/{/^#SBATCH/!s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
exec srun --kill-on-bad-exit=1 --label "${GP_JAX:-gp-jax}" "${COMMAND:-train}" "$@" --coordinator auto
