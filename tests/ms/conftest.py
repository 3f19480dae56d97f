import pytest

from unet_dist.train.device import start_mindspore


@pytest.fixture(scope="session", autouse=True)
def _mindspore() -> None:
    start_mindspore("CPU")
