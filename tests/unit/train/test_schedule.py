from itertools import pairwise

import pytest

from unet_dist.config import TrainConfig
from unet_dist.train.schedule import LossScale, average_decay, learning_rate


def test_learning_rate_rises_linearly_then_falls_as_a_cosine_to_its_floor() -> None:
    config = TrainConfig(lr=1.0, warmup=0.1, min_lr=0.01)
    rates = [learning_rate(step, 101, config) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert rates[55] == pytest.approx((1 + 0.01) / 2)
    assert rates[-1] == pytest.approx(0.01)
    assert all(a >= b for a, b in pairwise(rates[9:]))


def test_constant_schedule_stays_after_warmup() -> None:
    config = TrainConfig(lr=1.0, warmup=0.0, schedule="constant")
    assert {learning_rate(step, 50, config) for step in range(50)} == {1.0}


def test_loss_scale_halves_on_overflow_and_doubles_after_a_window() -> None:
    scale = LossScale(8.0)
    scale = scale.after(overflow=True, window=2)
    assert scale == LossScale(4.0, 0)
    scale = scale.after(overflow=False, window=2)
    assert scale == LossScale(4.0, 1)
    assert scale.after(overflow=False, window=2) == LossScale(8.0, 0)


def test_average_forgets_the_first_weights() -> None:
    config = TrainConfig(ema=0.99)
    assert average_decay(0, config) == pytest.approx(0.1)
    assert average_decay(10**6, config) == 0.99
