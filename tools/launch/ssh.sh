#!/usr/bin/env bash
# Trains on several machines over plain ssh, one process each; the first one coordinates.
#
#   tools/launch/ssh.sh gpu1,gpu2 --config configs/sd2.py:keyframes --workdir /shared/run
#   tools/launch/ssh.sh localhost,localhost ...     two processes on this machine, without ssh
#
# Each machine needs a login by key and the same folders. GP_JAX is the program there (by default gp-jax), COMMAND what
# it does (by default train; outpaint, evaluate and bench go as well), PORT one of the first machine (9876). Ctrl-C, or
# one process that fails, tells all of them to save and exit.
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
printf -v command '%q ' "${GP_JAX:-gp-jax}" "${COMMAND:-train}" "$@" \
  --coordinator "${hosts[0]##*@}:${PORT:-9876}" --num-processes "${#hosts[@]}"

# The standard input of all processes is one pipe into which nothing is written. When it ends, by the lines below or
# because this script is gone, a process is told to save and exit; what it says then still comes back.
pipe=$(mktemp -u)
mkfifo "$pipe"
exec {hold}<>"$pipe"
exec {silence}<"$pipe"
rm "$pipe"
for i in "${!hosts[@]}"; do
  remote="exec 3<&0; $command --process-id $i & job=\$!; { read -ru 3; kill \$job; } 2>/dev/null & watch=\$!; "
  remote+="wait \$job; code=\$?; kill \$watch 2>/dev/null; exit \$code"
  run=(ssh "${hosts[i]}" "bash -c $(printf %q "$remote")")
  [[ ${hosts[i]} != localhost ]] || run=(bash -c "$remote")
  setsid "${run[@]}" <&"$silence" {hold}>&- &
done
trap : INT TERM # they end a wait, with a code that is not 0
code=
for _ in "${hosts[@]}"; do
  wait -n || { code=${code:-$?} && exec {hold}>&-; }
done
wait
exit "${code:-0}"
