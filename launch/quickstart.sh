#!/usr/bin/env bash
# From a fresh clone to a trained U-Net: 4 simulated ranks on generated vessel images.
#   launch/quickstart.sh                     # into runs/quickstart
#   launch/quickstart.sh train.epochs=20     # with other settings
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh
if [[ ! -d data/vessels ]]; then
  python -m unet_dist data synth vessels data/vessels --count 40 --size 256 --seed 0 > /dev/null
fi
run=runs/quickstart number=1
while [[ -e $run ]]; do run=runs/quickstart-$((++number)); done
exec python -m unet_dist train configs/vessels.yaml data.root=data/vessels "$@" \
  --simulate 4 --run "$run"
