#!/usr/bin/env bash
# Trains on the Ascend cards of this server, profiles some steps, and says where their time goes.
#   launch/profile.sh configs/drive.yaml rank_tables/1x8.json 100:110 data.root=/data/DRIVE
set -euo pipefail
if [[ $# -lt 3 ]]; then
  sed -n '2,3p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
config=$1 table=$2 steps=$3
shift 3
run="runs/profile_$(date +%Y%m%d_%H%M%S)"
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
python -m unet_dist train "$config" "$@" --rank-table "$table" --profile "steps=$steps" --run "$run"
exec python -m unet_dist profile analyze "$run/profile" --html "$run/profile.html"
