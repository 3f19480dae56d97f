#!/usr/bin/env bash
# Trains on several servers from this one: mpirun reaches the others by ssh and starts all ranks.
# HOSTS is a file with a line `server1 slots=8` each, or server1:8,server2:8; with a rank table in
# the order of its servers. The run folder and this virtual environment must be on all of them.
#   launch/cluster_mpirun.sh hosts.txt configs/drive.yaml --rank-table rank_tables/2x8.json \
#     --run /shared/runs/drive data.root=/shared/DRIVE
#   launch/cluster_mpirun.sh a:2,b:2 configs/vessels.yaml --simulate 4 --run /shared/runs/vessels
set -euo pipefail
if [[ $# -lt 2 ]]; then
  sed -n '2,7p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
hosts=$1 config=$2
shift 2
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m unet_dist train "$config" --hosts "$hosts" "$@"
