from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.profiling.made import MS, profile_of
from unet_dist.cli import app
from unet_dist.profiling.analysis import analyse
from unet_dist.profiling.compare import compare_profiles
from unet_dist.profiling.write import write_text_folder


def jittered(seed, *, slower_ms=0.0):
    """Steps of 100 ms whose idle end varies by a millisecond."""
    profile = profile_of(steps=12)
    rng = np.random.default_rng(seed)
    steps = tuple(
        replace(step, end_ns=step.end_ns - 4 * MS + round(rng.normal(slower_ms, 1.0) * MS))
        for step in profile.steps
    )
    return replace(profile, steps=steps)


def test_a_profile_compared_with_itself_shows_nothing():
    one = analyse([jittered(0)])
    found = compare_profiles(one, one)
    assert found.slower_by() == 0
    assert (found.parts, found.kernels) == ((), ())


def test_noise_is_no_finding_and_a_change_is_one():
    noise = [
        compare_profiles(analyse([jittered(seed)]), analyse([jittered(seed + 100)])).slower_by()
        for seed in range(20)
    ]
    assert sum(value != 0 for value in noise) <= 3
    found = compare_profiles(analyse([jittered(0)]), analyse([jittered(1, slower_ms=3.5)]))
    assert found.slower_by() == pytest.approx(0.035, abs=0.01)
    assert found.parts[0].name == "after the device's last work"


def test_the_command_fails_above_the_limit(tmp_path):
    write_text_folder(tmp_path / "a" / "r0_ascend_ms", jittered(0))
    write_text_folder(tmp_path / "b" / "r0_ascend_ms", jittered(1, slower_ms=3.5))
    paths = [str(tmp_path / name) for name in "ab"]
    done = CliRunner().invoke(app, ["profile", "compare", *paths, "--fail-above", "2%"])
    assert done.exit_code == 1, done.output
    assert "after the device's last work" in done.output
    done = CliRunner().invoke(app, ["profile", "compare", *paths, "--fail-above", "10"])
    assert done.exit_code == 0


def test_too_few_steps_neither_pass_nor_fail_a_limit(tmp_path):
    """One step of each: twice as long may be noise, and is not called so."""
    one = profile_of(steps=1)
    twice = replace(
        one, steps=tuple(replace(s, end_ns=s.end_ns + 100 * MS) for s in one.steps)
    )  # fmt: skip
    write_text_folder(tmp_path / "a" / "r0_ascend_ms", one)
    write_text_folder(tmp_path / "b" / "r0_ascend_ms", twice)
    paths = [str(tmp_path / name) for name in "ab"]
    done = CliRunner().invoke(app, ["profile", "compare", *paths, "--fail-above", "3%"])
    assert "needs 3 steps of each profile" in str(done.exception)
    done = CliRunner().invoke(app, ["profile", "compare", *paths])
    assert done.exit_code == 0
    assert "100.00 to 200.00 ms" in done.output
    assert "1 and 1 steps do not tell" in done.output
    done = CliRunner().invoke(app, ["profile", "compare", *paths, "--fail-above", "nan"])
    assert "must be a percentage" in str(done.exception)
