#!/usr/bin/env bash
# Profiles some steps of a training on simulated ranks, and says where their time goes.
#   launch/profile.sh configs/vessels.yaml data.root=DIR
#   STEPS=100:110 RANKS=4 launch/profile.sh configs/vessels.yaml data.root=DIR
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/setup.sh"
run="runs/profile_$(date +%Y%m%d_%H%M%S)"
python -m unet_dist train "$@" --simulate "${RANKS:-2}" --profile "steps=${STEPS:-20:25}" --run "$run"
exec python -m unet_dist profile analyze "$run/profile" --html "$run/profile.html"
