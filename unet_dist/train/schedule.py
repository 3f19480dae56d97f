"""Numbers that follow from the step: learning rate, loss scale, decay of the average."""

import math
from dataclasses import dataclass, replace
from typing import Self

from unet_dist.config import TrainConfig


def learning_rate(step: int, total_steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then constant or a cosine down to ``min_lr``. Steps count from 0."""
    warmup = round(config.warmup * total_steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    progress = (step - warmup) / max(1, total_steps - 1 - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.lr * (config.min_lr + (1 - config.min_lr) * cosine)


def average_decay(updates: int, config: TrainConfig) -> float:
    """Decay of the weights' average; small at first, so that early weights are forgotten."""
    return min(config.ema, (1 + updates) / (10 + updates))


@dataclass(frozen=True)
class LossScale:
    """Dynamic loss scale of fp16 (Micikevicius et al., arXiv:1710.03740, section 3.2)."""

    value: float
    good_steps: int = 0

    def after(self, *, overflow: bool, window: int) -> Self:
        if overflow:
            return replace(self, value=self.value / 2, good_steps=0)
        if self.good_steps + 1 >= window:
            return replace(self, value=self.value * 2, good_steps=0)
        return replace(self, good_steps=self.good_steps + 1)
