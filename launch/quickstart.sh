#!/usr/bin/env bash
# From a fresh clone to a trained U-Net: 4 simulated ranks on generated vessel images.
#   launch/quickstart.sh                     # into runs/vessels, the next time runs/vessels-2
#   launch/quickstart.sh train.epochs=20     # with other settings
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh user
if [[ ! -d data/vessels ]]; then
  python -m unet_dist data synth vessels data/vessels --count 40 --size 256 --seed 0 > /dev/null
fi
exec python -m unet_dist train configs/vessels.yaml data.root=data/vessels "$@" --simulate 4
