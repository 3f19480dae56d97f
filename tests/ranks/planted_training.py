"""Run under ``unet-dist launch``: a training with a planted fault. Loop, loader and capture are the
program's own.

    python planted_training.py images RUN CONFIG SECONDS [KEY=VALUE...]
    python planted_training.py steps RUN CONFIG SECONDS [KEY=VALUE...]

images: they are slow to read, first on all ranks, then on the last one. steps: the last rank stands
still before each.
"""

import sys
import time
from pathlib import Path
from typing import Any

from unet_dist.comm.mpi_comm import MpiCommunicator
from unet_dist.heartbeat import Heartbeat

comm = MpiCommunicator(Heartbeat.of_this_rank())

from unet_dist.config_file import load_config  # noqa: E402
from unet_dist.data import dataset as reading  # noqa: E402
from unet_dist.data.dataset import Normalisation, open_dataset  # noqa: E402
from unet_dist.data.images import Pixels  # noqa: E402
from unet_dist.data.loader import Batch, TrainLoader  # noqa: E402
from unet_dist.data.sample import ImageRef  # noqa: E402
from unet_dist.profiling.capture import CapturePlan  # noqa: E402
from unet_dist.runs import RunDir  # noqa: E402
from unet_dist.train.device import start_mindspore  # noqa: E402

start_mindspore("CPU")

from unet_dist.train.loop import train  # noqa: E402
from unet_dist.train.step import TrainStep  # noqa: E402

fault, run, source, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
PLANS = {"images": "steps=4:7,every=5,repeat=2", "steps": "steps=3:12"}
STEPS_OF_ALL = 8
"""After them the last rank alone reads slowly."""
config = load_config(
    Path(source),
    [
        *sys.argv[5:],
        "data.cache_mb=0",  # or an image would be read in the first epoch alone
        "train.prefetch=1",
        "data.split.val=0",
        f"train.batch={comm.world}",  # an image a rank and step
    ],
)
dataset = open_dataset(config.data, seed=config.seed)
read_image, make_step, summed = reading.read_image, TrainLoader.make_step, TrainStep.summed
making = {"step": 0}


def make_step_by_number(self: TrainLoader, step: int) -> list[Batch]:
    making["step"] = step + 1
    return make_step(self, step)


def read_slowly(image: ImageRef) -> Pixels:
    if making["step"] <= STEPS_OF_ALL or comm.rank == comm.world - 1:
        time.sleep(seconds)
    return read_image(image)


def stand_still(self: TrainStep, *batches: Any, **settings: Any) -> Any:
    if comm.rank == comm.world - 1:
        time.sleep(seconds)
    return summed(self, *batches, **settings)


if fault == "images":
    reading.read_image = read_slowly
    TrainLoader.make_step = make_step_by_number  # type: ignore[method-assign]
else:
    TrainStep.summed = stand_still  # type: ignore[method-assign]
channels = config.data.in_channels
train(
    config,
    RunDir(Path(run)),
    dataset,
    Normalisation((0.5,) * channels, (0.25,) * channels),
    comm,
    resume=False,
    until_dice=0.0,
    stop_requested=lambda: False,
    profile=CapturePlan.parse(PLANS[fault], "all"),
)
