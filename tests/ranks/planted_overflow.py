"""Run under mpirun: two fp16 steps; in the second, one rank's image holds a huge value."""

import json
import sys

from unet_dist.comm.mpi_comm import MpiCommunicator

comm = MpiCommunicator()

import numpy as np  # noqa: E402

from unet_dist.config_file import build_config  # noqa: E402
from unet_dist.data.loader import Batch  # noqa: E402
from unet_dist.train.device import start_mindspore  # noqa: E402

start_mindspore("CPU")

from unet_dist.train.checkpoint import TrainState  # noqa: E402
from unet_dist.train.loop import advance, build_net  # noqa: E402
from unet_dist.train.step import TrainStep  # noqa: E402

config = build_config(
    {}, ["train.amp=fp16", "train.loss_scale=1024", "model.width=4", "model.depth=1"], where="test"
)
net = build_net(config, comm)
step = TrainStep(net, loss=config.loss, train=config.train, comm=comm)
rng = np.random.default_rng(comm.rank)
state = TrainState(loss_scale=config.train.loss_scale)
report = []
for number in range(3):
    x_nchw = rng.standard_normal((1, 3, 16, 16)).astype(np.float32)
    if number == 1 and comm.rank == 1:
        x_nchw[0, 0, 3, 3] = 1e6  # beyond float16
    batch = Batch(
        x_nchw=x_nchw,
        target_nhw=rng.integers(0, 2, (1, 16, 16)).astype(np.int32),
        valid_nhw=np.ones((1, 16, 16), np.float32),
        skeleton_nhw=np.zeros((1, 1, 1), np.int32),
        weight_n=np.ones(1, np.float32),
        keep_nc=np.ones((1, net.deepest_channels), np.float32),
        step_images=comm.world,
    )
    before = net.trainable_params()[0].asnumpy().tobytes()
    result = step(
        [batch],
        updates=state.updates,
        lr=0.01,
        average_decay=0.5,
        loss_scale=state.loss_scale,
        stop=False,
    )
    state = advance(state, result, config)
    changed = net.trainable_params()[0].asnumpy().tobytes() != before
    report.append([result.overflow, changed, state.loss_scale, state.updates])
for rank, reported in enumerate(comm.all_gather(json.dumps(report).encode())):
    if comm.rank == 0:
        sys.stdout.write(f"REPORT {rank} {reported.decode()}\n")
