#!/usr/bin/env bash
# Starts a Ray cluster on several machines over plain ssh, runs a command of independent shards on it, and stops it.
#
#   tools/launch/ray.sh cpu1,cpu2 python tools/build_records.py videos films/ records/256 --size 256x256
#   tools/launch/ray.sh gpu1,gpu2 python tools/precompute.py records/256 all --checkpoint my_model/ --ask GPU=1
#   tools/launch/ray.sh gpu1,gpu2 gp-jax evaluate --protocol m3ddm-256 --data DAVIS --output results --ask GPU=1
#
# `--engine ray --address ...` is added to the command, which runs here, on the first machine. Each machine needs a login
# by key, gp_jax[ray], and the same folders by the same paths; PORT is one of the first machine (6379). Where there is a
# cluster already (KubeRay, Anyscale), give the command these two options, and this script is not needed.
set -euo pipefail
if (($# < 2)); then
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
if [[ ! $1 =~ ^[^,[:space:]]+(,[^,[:space:]]+)*$ ]]; then
  echo "'$1' are no machines: give their names with commas between, such as gpu1,gpu2" >&2
  exit 2
fi
IFS=, read -ra hosts <<<"$1"
shift
address="${hosts[0]##*@}:${PORT:-6379}"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN # nobody else's commands are run
RAY_AUTH_TOKEN=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')
stop() {
  for host in "${hosts[@]:1}"; do ssh "$host" "ray stop" || true; done
  ray stop
}
ray start --head --port "${address##*:}" >&2
trap 'stop >/dev/null 2>&1' EXIT # not before: where that fails, the cluster that is here is somebody else's
for host in "${hosts[@]:1}"; do
  join="read -r RAY_AUTH_TOKEN; export RAY_AUTH_TOKEN RAY_AUTH_MODE=token; ray start --address $address"
  ssh "$host" "bash -c $(printf %q "$join")" <<<"$RAY_AUTH_TOKEN" >&2
done
"$@" --engine ray --address "$address"
