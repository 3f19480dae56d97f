import numpy as np
import pytest

from unet_dist.profiling.clocks import align
from unet_dist.profiling.tables import Collective, RankProfile

S = 1_000_000_000


def ranks_with_clocks(offsets_s, *, collectives, jitter_ns, drift=0.0, seed=0):
    """Ranks whose collectives end together, each as its own clock tells it."""
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.integers(0, 60 * S, collectives)) + 1_700_000_000 * S
    profiles = []
    for rank, offset in enumerate(offsets_s):
        own = ends + offset * S + (drift * (ends - ends[0]) if rank else 0)
        own = own + rng.normal(0, jitter_ns, collectives)
        profiles.append(
            RankProfile(
                rank=rank, source="", format="ascend text",
                collectives=tuple(
                    Collective(
                        name=f"allReduce_{number}", group="", step=0,
                        begin_ns=int(end) - 1000, end_ns=int(end),
                    )
                    for number, end in enumerate(own)
                ),
            )
        )  # fmt: skip
    return profiles, ends


def test_offsets_of_ten_seconds_on_64_ranks_are_found_within_5_us():
    offsets = np.concatenate([[0.0], np.random.default_rng(1).uniform(-10, 10, 63)])
    profiles, _ = ranks_with_clocks(offsets, collectives=50, jitter_ns=10_000)
    clocks = align(profiles)
    errors = [abs(clocks[rank].offset_ns - offset * S) for rank, offset in enumerate(offsets)]
    assert max(errors) < 5_000


def test_a_drift_of_20_ppm_is_fitted():
    profiles, ends = ranks_with_clocks([0, 3], collectives=300, jitter_ns=10_000, drift=20e-6)
    clock = align(profiles)[1]
    assert clock.drift == pytest.approx(20e-6, rel=0.02)
    own = [one.end_ns for one in profiles[1].collectives]
    errors = [clock.common_ns(moment) - end for moment, end in zip(own, ends, strict=True)]
    assert np.abs(np.median(errors)) < 5_000
    assert np.quantile(np.abs(errors), 0.9) < 30_000


def test_without_a_drift_none_is_fitted():
    profiles, _ = ranks_with_clocks([0, 3], collectives=300, jitter_ns=10_000)
    assert align(profiles)[1].drift == 0


def test_too_few_common_collectives_tell_nothing():
    profiles, _ = ranks_with_clocks([0, 3], collectives=2, jitter_ns=0)
    clock = align(profiles)[1]
    assert not clock.is_known
    assert clock.common_ns(123) == 123


def test_a_name_that_returns_each_step_is_another_collective_each_time():
    profiles, _ = ranks_with_clocks([0, 1], collectives=4, jitter_ns=0)
    again = [
        RankProfile(
            rank=one.rank, source="", format="ascend text",
            collectives=tuple(
                Collective(name="same", group="", step=0, begin_ns=c.begin_ns, end_ns=c.end_ns)
                for c in one.collectives
            ),
        )
        for one in profiles
    ]  # fmt: skip
    clock = align(again)[1]
    assert (clock.collectives, clock.offset_ns) == (4, S)
