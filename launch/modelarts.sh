#!/usr/bin/env bash
# Trains in a ModelArts training job (custom image, Ascend), as its boot command on every instance:
#   launch/modelarts.sh /home/ma-user/modelarts/outputs/drive configs/drive.yaml data.root=DIR
# RUN must be a folder that all instances mount (SFS Turbo); an output on OBS is not shared.
set -euo pipefail
if [[ $# -lt 2 ]]; then
  sed -n '2,4p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
# RANK_TABLE_FILE names the folder of jobstart_hccl.json, which is template 2, and is not complete
# from the beginning: https://support.huaweicloud.com/docker-modelarts/docker-modelarts-0092.html
table=${RANK_TABLE_FILE:-/user/config}
if [[ -d $table ]]; then
  table=$table/jobstart_hccl.json
fi
python -m unet_dist rank-table check "$table" --wait 600
# "Distributed training job": https://support.huaweicloud.com/intl/en-us/develop-modelarts/develop-modelarts-0104.html
export PART=${VC_TASK_INDEX:-0}/${MA_NUM_HOSTS:-1}
exec "$(dirname "${BASH_SOURCE[0]}")/cluster_per_node.sh" "$@" --rank-table "$table"
