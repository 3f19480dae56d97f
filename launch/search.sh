#!/usr/bin/env bash
# Searches hyperparameters on the Ascend cards of this server, or goes on with a study.
#   launch/search.sh configs/search_chasedb1.yaml rank_tables/1x8.json data.root=/data/CHASEDB1
#   launch/search.sh searches/search_chasedb1
set -euo pipefail
if [[ $# -lt 1 ]]; then
  sed -n '2,4p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
target=$1
shift
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
if [[ -d $target ]]; then
  exec python -m unet_dist search "$target" --resume "$@"
fi
table=${1:?a rank table}
shift
exec python -m unet_dist search "$target" --rank-table "$table" "$@"
