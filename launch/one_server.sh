#!/usr/bin/env bash
# Trains on the Ascend cards of this server, one process per card of the rank table.
#   launch/one_server.sh configs/drive.yaml rank_tables/1x8.json data.root=/data/DRIVE
set -euo pipefail
if [[ $# -lt 2 ]]; then
  sed -n '2,3p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
config=$1 table=$2
shift 2
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m unet_dist train "$config" --rank-table "$table" "$@"
