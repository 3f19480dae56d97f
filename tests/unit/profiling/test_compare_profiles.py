from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.profiling.made import MS, profile_of
from unet_dist.cli import app
from unet_dist.config_file import build_config, dump_config
from unet_dist.profiling.analysis import analyse
from unet_dist.profiling.compare import compare_profiles
from unet_dist.profiling.unlike import unlike
from unet_dist.profiling.write import write_text_folder
from unet_dist.records import RecordWriter
from unet_dist.runs import RunDir, write_text_atomically


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


def varied(lengths_ms):
    """A step of each length."""
    profile = profile_of(steps=len(lengths_ms))
    steps, begin = [], profile.steps[0].begin_ns
    for step, length_ms in zip(profile.steps, lengths_ms, strict=True):
        steps.append(replace(step, begin_ns=begin, end_ns=begin + length_ms * MS))
        begin += length_ms * MS
    return replace(profile, steps=tuple(steps))


def test_a_limit_within_the_noise_is_neither_kept_nor_broken(tmp_path):
    """Medians of 100 ms both, of steps between 80 and 120 ms: 3 % cannot be told, 50 % can."""
    lengths = [80, 90, 100, 110, 120]
    write_text_folder(tmp_path / "a" / "r0_ascend_ms", varied(lengths))
    write_text_folder(tmp_path / "b" / "r0_ascend_ms", varied(lengths[::-1]))
    paths = [str(tmp_path / name) for name in "ab"]
    done = CliRunner().invoke(app, ["profile", "compare", *paths, "--fail-above", "3%"])
    assert "too noisy to judge 3 %: 5 and 5 steps tell a change of +0.0%" in str(done.exception)
    assert "profile more steps" in str(done.exception)
    for limit in ("50%", "0"):
        done = CliRunner().invoke(app, ["profile", "compare", *paths, "--fail-above", limit])
        assert done.exit_code == 0, done.exception


def test_profiles_of_other_ranks_machines_and_shapes_are_told(tmp_path):
    one = profile_of()
    kernels = replace(one.kernels, texts=tuple(
        "8,8,256,256" if text == "4,8,256,256" else text for text in one.kernels.texts
    ))  # fmt: skip
    other = replace(one, kernels=kernels)
    a, b = analyse([one]), analyse([other])
    assert unlike(tmp_path, a, tmp_path, a) == []
    assert unlike(tmp_path, a, tmp_path, b) == [
        f"no {kind} of B has the shapes of one of A, such as 4,8,256,256"
        for kind in ("Conv2D", "Conv2DBackpropFilter", "ReLU")
    ]
    on_cards = analyse([replace(profile_of(rank), simulated=False) for rank in (0, 1)])
    assert unlike(tmp_path, a, tmp_path, on_cards)[:2] == [
        "A is of simulated ranks, B of cards",
        "A is of rank 0, B of rank 0, 1",
    ]


def test_settings_of_the_runs_that_differ_are_told(tmp_path):
    for name, batch in (("a", 4), ("b", 8)):
        run = RunDir(tmp_path / name)
        config = build_config({}, [f"train.batch={batch}", f"train.lr={batch}e-4"], where="x")
        write_text_atomically(run.config, dump_config(config))
        with RecordWriter(run.records(0)) as records:
            records.write("start", images_per_rank=batch // 2)
    a = analyse([profile_of()])
    assert unlike(tmp_path / "a", a, tmp_path / "b", a) == [
        "images of a rank at once: A has 2, B has 4",
        "train.batch: A has 4, B has 8",
    ]
