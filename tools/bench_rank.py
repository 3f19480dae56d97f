"""One rank of a benchmark: times bare optimiser steps of the default model on a fixed batch.

Started by tools/bench.py, under mpirun, under msrun, or alone; prints one JSON line on rank 0.
"""

import argparse
import json
import os
import statistics
import time
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument("--comm", choices=["mpi", "mindspore"], required=True)
parser.add_argument("--images", type=int, required=True, help="per rank")
parser.add_argument("--size", type=int, required=True)
parser.add_argument("--steps", type=int, required=True)
parser.add_argument("--threads", type=int, default=0, help="cores at MindSpore's start")
parser.add_argument("overrides", nargs="*")
options = parser.parse_args()

if options.comm == "mpi":
    from unet_dist.comm.mpi_comm import MpiCommunicator

    mpi = MpiCommunicator()
allowed = sorted(os.sched_getaffinity(0))
if options.threads:
    first = mpi.rank * options.threads % len(allowed)
    os.sched_setaffinity(0, allowed[first : first + options.threads])

import numpy as np  # noqa: E402

from unet_dist.train.device import start_mindspore  # noqa: E402

start_mindspore("CPU")
os.sched_setaffinity(0, allowed)
comm: Any
if options.comm == "mpi":
    comm = mpi
else:
    from unet_dist.comm.mindspore_comm import MindsporeCommunicator

    comm = MindsporeCommunicator()

from unet_dist.config_file import build_config  # noqa: E402
from unet_dist.data.loader import Batch  # noqa: E402
from unet_dist.train.loop import build_net  # noqa: E402
from unet_dist.train.step import TrainStep  # noqa: E402

config = build_config({}, options.overrides, where="bench")
net = build_net(config, comm)
step = TrainStep(net, loss=config.loss, train=config.train, comm=comm)
rng = np.random.default_rng(0)
shape = (options.images, options.size, options.size)
batch = Batch(
    x_nchw=rng.standard_normal((shape[0], config.data.in_channels, *shape[1:])).astype(np.float32),
    target_nhw=(rng.random(shape) > 0.9).astype(np.int32),
    valid_nhw=np.ones(shape, np.float32),
    skeleton_nhw=np.zeros((shape[0], 1, 1), np.int32),
    weight_n=np.ones(options.images, np.float32),
    keep_nc=np.ones((options.images, net.deepest_channels), np.float32),
    step_images=options.images * comm.world,
)
durations: list[float] = []
first_step_at = 0.0
for number in range(options.steps + 1):
    started = time.monotonic()
    step([batch], updates=number, lr=1e-3, average_decay=0.9, loss_scale=1.0, stop=False)
    durations.append(time.monotonic() - started)
    first_step_at = first_step_at or time.time()
if comm.rank == 0:
    median = statistics.median(durations[1:])
    measured = {
        "step_s": median,
        "images_per_s": batch.step_images / median,
        "first_step_at": first_step_at,
    }
    print("BENCH " + json.dumps(measured), flush=True)
