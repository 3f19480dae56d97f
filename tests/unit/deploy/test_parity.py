"""When two networks count as equal, and what is said when they do not."""

import math

import numpy as np
from numpy.typing import NDArray

from unet_dist.deploy.parity import Parity, compare_on_random


class Shifted:
    """A network whose probability is the image's first channel and a little more."""

    def __init__(self, more: float) -> None:
        self.more = np.float32(more)

    def forward(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        return image_nchw[:, :1] + self.more


def test_networks_are_equal_up_to_a_ten_thousandth() -> None:
    for more, faults in ((0.5e-4, 0), (2e-4, 1)):
        parity = compare_on_random(Shifted(0), Shifted(more), in_channels=3)
        assert abs(parity.largest - more) < 1e-6
        assert parity.random_images == 1 + 2 + 3 + 4
        assert len(parity.faults()) == faults


def test_what_is_no_number_is_never_equal() -> None:
    parity = compare_on_random(Shifted(0), Shifted(math.nan), in_channels=1)
    assert math.isnan(parity.largest)
    assert len(parity.faults()) == 1
    assert parity.to_json()["largest"] is None


def test_dice_has_a_limit_of_its_own() -> None:
    same = Parity(largest=0.0, dice=0.8, dice_deployed=0.80005, images=2)
    worse = Parity(largest=0.0, dice=0.8, dice_deployed=0.7998, images=2)
    undefined = Parity(largest=0.0, dice=0.8, dice_deployed=math.nan, images=2)
    assert not same.faults()
    assert "0.79980" in worse.faults()[0]
    assert "0.80000" in worse.faults()[0]
    assert len(undefined.faults()) == 1
