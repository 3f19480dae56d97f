"""What a person reads at a terminal."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.unit.profiling.made import MS, profile_of
from unet_dist.profiling.analysis import analyse
from unet_dist.profiling.compare import compare_profiles
from unet_dist.profiling.describe import lines_of, tables_of


def shown(analysis, width):
    file = io.StringIO()
    console = Console(file=file, width=width)
    for table in tables_of(analysis, width=width):
        console.print(table)
    return file.getvalue()


def rank_of(number, step_s):
    """A rank whose step takes so many seconds."""
    profile = profile_of(number, steps=1)
    [step] = profile.steps
    return replace(profile, steps=(replace(step, end_ns=step.begin_ns + step_s * 1000 * MS),))


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_number_and_no_name_is_cut(width):
    analysis = analyse([rank_of(rank, 1234 + rank) for rank in range(12)])
    text = shown(analysis, width)
    for rank in range(12):
        assert f"{1234 + rank}000.00" in text
    assert "\u2026" not in text
    assert max(map(len, text.splitlines())) <= width
    assert "Conv2DBackprop" in text  # with its end, or folded
    assert "Filter" in text or "ilter" in text


def test_more_ranks_than_are_shown_are_told():
    assert "first 16 of 20 ranks" in shown(analyse([profile_of(r) for r in range(20)]), 300)


def test_links_launches_and_growth_are_told():
    told = "\n".join(lines_of(analyse([profile_of(rank) for rank in range(2)])))
    assert "2 HCCS links: 16.0 to 16.0 GB/s, median 16.0" in told  # 64 MB in 4 ms
    assert "kernels of a mean step: 3, of which 0 are shorter than 10 us" in told
    assert "10.00 ms lie between kernels" in told
    assert "memory of rank 0 is steady over 3 steps" in told


def test_a_mean_that_contradicts_the_median_is_told():
    """Of 100, 100, 100 and 500 ms: the mean is twice the median."""
    profile = profile_of(steps=4)
    *others, last = profile.steps
    longer = replace(profile, steps=(*others, replace(last, end_ns=last.end_ns + 400 * MS)))
    told = [line for line in lines_of(analyse([longer])) if "differ much" in line]
    assert len(told) == 1
    assert "rank 0 differ much: mean 200.00 ms, median 100.00, step 3 alone 500.00;" in told[0]
    assert not [line for line in lines_of(analyse([profile])) if "differ much" in line]
    [told] = compare_profiles(analyse([profile]), analyse([longer])).outliers
    assert told.startswith("steps of B differ much: mean 200.00 ms")


def test_columns_that_tell_nothing_are_left_out():
    profile = profile_of()
    assert "busy pipe" in shown(analyse([profile]), 130)
    kernels = replace(profile.kernels, counters={})
    text = shown(analyse([replace(profile, kernels=kernels)]), 130)
    assert "busy pipe" not in text
    assert "AI_CORE" in text
