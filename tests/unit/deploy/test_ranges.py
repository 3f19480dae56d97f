"""Ranges of 8 bits, against values that can be computed by hand."""

import numpy as np
import pytest

from unet_dist.deploy.ranges import CALIBRATIONS, Range, choose_range

DRAW = np.random.default_rng(0)


def test_scale_and_offset_keep_zero_whole() -> None:
    assert Range.of(0, 255).scale_and_offset("u8") == (1.0, 0)
    scale, offset = Range.of(-1, 4.1).scale_and_offset("u8")  # 5.1 / 255 = 0.02, 1 / 0.02 = 50
    assert scale == pytest.approx(0.02)
    assert offset == 50
    assert Range.of(-2.54, 1).scale_and_offset("s8") == (pytest.approx(0.02), 0)
    assert Range.of(1, 2) == Range(low=0.0, high=2.0)  # zero is always within


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_a_range_without_values_is_no_trouble(method: str) -> None:
    zeros = np.zeros(100, np.float32)
    scale, _ = choose_range(zeros, 0.0, 0.0, method).scale_and_offset("u8")  # type: ignore[arg-type]
    assert scale > 0


def test_percentile_cuts_off_the_last_ten_thousandth() -> None:
    values = np.linspace(0, 1, 100_001, dtype=np.float32)
    found = choose_range(values, 0.0, 50.0, "percentile")  # 50 was not in the sample
    assert found.high == pytest.approx(0.9999, abs=1e-6)


def test_minmax_covers_all_even_what_the_sample_lacks() -> None:
    assert choose_range(np.ones(3, np.float32), -7.0, 9.0, "minmax") == Range(low=-7.0, high=9.0)


def rounding_error(values: np.ndarray, part: Range) -> float:
    step = (part.high - part.low) / 255
    inside = np.clip(values, part.low, part.high)
    return float(((np.rint(inside / step) * step - values) ** 2).mean())


def test_mse_trades_one_outlier_for_finer_steps() -> None:
    values = np.append(DRAW.random(20_000), 2.0).astype(np.float32)
    found = choose_range(values, 0.0, 2.0, "mse")
    assert found.high < 2.0
    assert rounding_error(values, found) < rounding_error(values, Range(low=0.0, high=2.0))


def test_entropy_cuts_a_long_tail_and_leaves_a_flat_histogram() -> None:
    tail = DRAW.exponential(1.0, 50_000).astype(np.float32)
    found = choose_range(tail, 0.0, float(tail.max()), "entropy")
    assert found.high < tail.max()
    flat = np.linspace(0, 1, 50_000, dtype=np.float32)
    assert choose_range(flat, 0.0, 1.0, "entropy").high > 0.95
