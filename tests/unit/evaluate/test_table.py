import math

import numpy as np
import pytest
from scipy import stats

from unet_dist.evaluate.table import bootstrap_intervals, bootstrap_unit, table_of


def intervals_of(values, groups=None):
    column = np.array(values, np.float64)[:, None]
    return bootstrap_intervals(column, groups or [str(n) for n in range(len(values))])[0]


def test_the_interval_is_that_of_an_independent_bootstrap_stretched_for_few_units():
    values = np.random.default_rng(3).normal(0.8, 0.03, 20)

    low, high = intervals_of(values.tolist())

    percentiles = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    stretch = stats.t.ppf(0.975, 19) / 1.96 * math.sqrt(20 / 19)
    expected = values.mean() + stretch * (np.array(percentiles) - values.mean())
    assert (low, high) == pytest.approx(expected, abs=1e-3)
    assert intervals_of(values.tolist()) == (low, high)


@pytest.mark.parametrize("units", [3, 5, 10])
def test_19_of_20_intervals_hold_the_true_mean_however_few_the_units_are(units):
    rng = np.random.default_rng(units)
    studies = 500
    found = bootstrap_intervals(rng.normal(0.8, 0.03, (units, studies)), list("abcdefghij")[:units])
    held = sum(low <= 0.8 <= high for low, high in found)
    assert held / studies == pytest.approx(0.95, abs=0.03)


def test_an_interval_ends_where_the_metric_does():
    rows = [{"dice": dice, "assd": 8 * (1 - dice)} for dice in (0.9, 0.99, 1.0)]
    table = table_of(rows, ids=["a", "b", "c"], groups=["a", "b", "c"])
    intervals = table.intervals()
    assert intervals["dice"][1] == 1
    assert intervals["assd"][0] == 0
    assert intervals["assd"][1] > 1


def test_the_images_of_a_patient_are_drawn_together():
    patients = np.random.default_rng(5).normal(0.8, 0.05, 12)
    both_eyes = np.repeat(patients, 2).tolist()
    groups = [f"patient-{number // 2}" for number in range(24)]

    of_patients = intervals_of(both_eyes, groups)

    # Two equal images of each patient say no more than one, and half as much as 24 patients.
    assert of_patients == pytest.approx(intervals_of(patients.tolist()), abs=1e-12)
    low, high = intervals_of(both_eyes)
    ratio = (of_patients[1] - of_patients[0]) / (high - low)
    assert ratio == pytest.approx(math.sqrt(2), abs=0.15)


def test_patients_are_the_unit_wherever_one_has_several_images_however_few_they_are():
    assert bootstrap_unit(["a", "a", "b", "b"]) == "patient"
    assert bootstrap_unit(["a", "a", "b", "c"]) == "patient"
    assert bootstrap_unit(["a", "b", "c"]) == "image"
    # 100 slices of 2 volumes are 2 witnesses.
    values = np.random.default_rng(0).normal(0.8, 0.01, 100).tolist()
    assert intervals_of(values, ["a"] * 50 + ["b"] * 50) is None
    assert intervals_of(values, ["a"] * 50 + ["b"] * 49 + ["c"]) is not None


def test_two_images_have_no_interval_and_three_have():
    assert intervals_of([0.7, 0.8]) is None
    assert intervals_of([0.7, 0.8, math.nan]) is None
    low, high = intervals_of([0.25, 0.5, 0.75])
    assert low < 0.25 < 0.75 < high


def test_a_metric_is_averaged_where_it_is_defined():
    rows = [{"dice": 0.5, "assd": math.nan}, {"dice": 0.7, "assd": 3.0}]

    table = table_of(rows, ids=["a", "b"], groups=["a", "b"])

    assert table.means() == {"dice": pytest.approx(0.6), "assd": 3.0}
    assert table.counted() == {"dice": 2, "assd": 1}
    assert table.column("assd")[1] == 3
    nothing = table_of([{"assd": math.nan}], ids=["a"], groups=["a"])
    assert math.isnan(nothing.means()["assd"])
    assert nothing.intervals() == {"assd": None}
