import pytest

from unet_dist.config_file import build_config
from unet_dist.search.memory import FIXED_GB, predicted_memory_gb


def gigabytes(*overrides: str, cards: int = 1) -> float:
    return predicted_memory_gb(build_config({}, overrides, where=""), cards) - FIXED_GB


def test_memory_goes_with_the_images_on_a_card_and_with_their_pixels() -> None:
    usual = gigabytes("train.batch=8")
    assert gigabytes("train.batch=16") == pytest.approx(2 * usual, rel=0.05)
    assert gigabytes("train.batch=8", cards=2) == pytest.approx(usual / 2, rel=0.1)
    assert gigabytes("train.batch=8", "train.accumulation=2") == pytest.approx(usual / 2, rel=0.1)
    assert gigabytes("train.batch=8", "augment.crop=512") == pytest.approx(4 * usual, rel=0.1)
    assert gigabytes("train.batch=8", "train.amp=fp16") < 0.6 * usual
    assert gigabytes("train.batch=8", "model.passes=2") == pytest.approx(2 * usual)
    assert gigabytes("train.batch=8", "model.stride=2") < 0.3 * usual


@pytest.mark.parametrize(
    ("overrides", "measured"),
    [
        (["model.width=1"], 0.88),
        (["model.width=16"], 2.41),
        (["model.width=16", "train.batch=4"], 2.00),
        (["model.width=8", "model.passes=2"], 2.53),
    ],
)
def test_the_prediction_is_of_the_size_of_what_was_measured(
    overrides: list[str], measured: float
) -> None:
    """Peak resident GB (VmHWM) of one rank on a CPU after 3 steps on 256 x 256 crops, depth 3."""
    config = build_config({}, ["train.batch=8", *overrides], where="")
    assert predicted_memory_gb(config, 1) == pytest.approx(measured, abs=0.5)
