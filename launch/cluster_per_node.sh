#!/usr/bin/env bash
# Starts this server's part of the ranks; give the same command on every server. The parts meet in
# RUN, a folder that all servers share. A RUN that exists is resumed, so the command can be repeated.
#   launch/cluster_per_node.sh /shared/runs/drive configs/drive.yaml --rank-table 4x8.json
# This server finds itself in the rank table by its addresses. PART says it instead: 1/4 is the
# second of four, in the table's order. Slurm's tasks know their part; an empty PART forgets it.
#   PART=0/2 launch/cluster_per_node.sh /shared/runs/vessels configs/vessels.yaml --simulate 4 \
#     --comm mindspore --master 10.0.0.1:8118
set -euo pipefail
if [[ $# -lt 2 ]]; then
  sed -n '2,8p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
run=$1 config=$2
shift 2
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
part=${PART-${SLURM_PROCID:+$SLURM_PROCID/$SLURM_NTASKS}}
if [[ -e $run/config.yaml ]]; then
  set -- "$run" --resume "$@"
else
  set -- "$config" --run "$run" "$@"
fi
exec python -m unet_dist train "$@" ${part:+--part "$part"}
