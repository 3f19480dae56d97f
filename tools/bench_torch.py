"""The peer of tools/bench.py: the same U-Net and loss in PyTorch, data-parallel over gloo."""

import argparse
import json
import os
import statistics
import time

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--images", type=int, required=True, help="per rank")
parser.add_argument("--size", type=int, required=True)
parser.add_argument("--steps", type=int, required=True)
parser.add_argument("--threads", type=int, required=True)
options = parser.parse_args()


class Block(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(8, outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(8, outputs),
            nn.ReLU(),
        )


class UNet(nn.Module):
    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(map(Block, [3, *widths[:-1]], widths))
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:-1]])
        self.decoder = nn.ModuleList([Block(2 * w, w) for w in widths[:-1]])
        self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.encoder[:-1]:
            skips.append(block(x))
            x = self.pool(skips[-1])
        x = self.encoder[-1](x)
        for level in reversed(range(len(skips))):
            x = self.decoder[level](torch.cat([skips[level], self.up[level](x)], 1))
        return self.head(x)


torch.set_num_threads(options.threads)
dist.init_process_group("gloo")
world = dist.get_world_size()
net = DistributedDataParallel(UNet())
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
rng = np.random.default_rng(0)
shape = (options.images, options.size, options.size)
x = torch.from_numpy(rng.standard_normal((shape[0], 3, *shape[1:])).astype(np.float32))
y = torch.from_numpy((rng.random(shape) > 0.9).astype(np.float32))[:, None]
durations = []
for _ in range(options.steps + 1):
    started = time.monotonic()
    z = net(x)
    p = torch.sigmoid(z)
    overlap, size = (p * y).sum((2, 3)), (p + y).sum((2, 3))
    dice = 1 - ((2 * overlap + 1) / (size + 1)).mean()
    loss = nn.functional.binary_cross_entropy_with_logits(z, y) + dice
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    durations.append(time.monotonic() - started)
if int(os.environ["RANK"]) == 0:
    median = statistics.median(durations[1:])
    rate = options.images * world / median
    print("BENCH " + json.dumps({"step_s": median, "images_per_s": rate}), flush=True)
dist.destroy_process_group()
