"""Profiles of real trainings on simulated ranks."""

import sys
from pathlib import Path

from tests.conftest import json_of, run_program
from unet_dist.profiling.analysis import Analysis, analyse
from unet_dist.profiling.load import find_profiles, read_profiles
from unet_dist.profiling.seen import Advice
from unet_dist.profiling.steps import PARTS, step_parts
from unet_dist.runs import RunDir

REPOSITORY = Path(__file__).parents[2]


def test_a_training_is_profiled(tmp_path: Path, tiny: list[str]) -> None:
    run = RunDir(tmp_path / "run")
    done = run_program(
        "train", *tiny, "train.batch=4", "train.epochs=2", "--simulate", 2, "--run", run.path,
        "--profile", "warmup=2,steps=5:14",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"unet-dist profile analyze {run.profiles}" in done.stdout
    profiles = read_profiles(find_profiles([run.profiles]))
    assert [profile.rank for profile in profiles] == [0, 1]
    for profile in profiles:
        assert [step.number for step in profile.steps] == list(range(5, 15))
        assert profile.kernels is not None
        # As many in each step, and none of the warm-up.
        convolutions = [
            step
            for kind, step in zip(
                profile.kernels.of(profile.kernels.type), profile.kernels.step, strict=True
            )
            if kind == "Conv2D"
        ]
        assert set(profile.kernels.step) == set(range(5, 15))
        assert len({convolutions.count(step) for step in range(5, 15)}) == 1
        for parts in step_parts(profile):
            assert sum(getattr(parts, f"{name}_ns") for name in PARTS) == parts.step_ns
    answer = json_of(run_program("profile", "analyze", run.profiles, "--json"))
    assert answer["simulated"] is True


def test_a_rank_that_stands_still_before_each_step_is_named(tmp_path: Path, vessels: Path) -> None:
    run = launch_planted("steps", tmp_path, vessels, seconds=1.5)
    answer = json_of(run_program("profile", "analyze", run.profiles, "--json"))
    assert [(late["rank"], late["cause"]) for late in answer["stragglers"]] == [(1, "host")]
    assert answer["advice"][0]["rule"] == "late_rank"


def launch_planted(fault: str, folder: Path, vessels: Path, *, seconds: float) -> RunDir:
    """On two ranks; seconds that no other test on this machine takes away at once."""
    run = RunDir(folder / "run")
    done = run_program(
        "launch", "--simulate", 2, "--run", run.path, "--", sys.executable,
        REPOSITORY / "tests/ranks/planted_training.py", fault, run.path, vessels / "config.yaml",
        seconds, "data.split.test=0", "augment.crop=32", "augment.crops_per_image=2",
        "model.width=4", "model.depth=1", "train.epochs=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return run


def test_slow_images_and_a_slow_rank_of_four_are_told_apart(tmp_path: Path) -> None:
    """By ranks that only sleep, but sum over MPI and are captured as a training is."""
    done = run_program(
        "launch", "--simulate", 4, "--run", tmp_path / "run", "--", sys.executable,
        REPOSITORY / "tools/light_rank.py", tmp_path / "run", "--phases", "data=60", "late=2:60",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    slow_images, slow_rank = sorted(RunDir(tmp_path / "run").profiles.iterdir())
    profiles = read_profiles(find_profiles([slow_images]))
    assert [profile.rank for profile in profiles] == [0, 1, 2, 3]
    assert all(profile.simulated and len(profile.steps) == 10 for profile in profiles)
    found = analyse(profiles)
    assert found.advice[0].rule == "data"
    assert found.parts["data"] > 55e6
    found = analyse(read_profiles(find_profiles([slow_rank])))
    assert found.advice[0].rule == "late_rank"
    assert [(late.rank, late.cause) for late in found.stragglers] == [(2, "host")]


def test_images_that_are_slow_to_read_are_told_of_all_ranks_and_of_one(
    tmp_path: Path, vessels: Path
) -> None:
    """By the program's own loader, in a real training."""
    run = launch_planted("images", tmp_path, vessels, seconds=2.5)
    of_all, of_one = sorted(run.profiles.iterdir())
    found = analyse(read_profiles(find_profiles([of_all])))
    # Loaders run ahead of the steps, so one that was held up once stays behind, and then the others
    # wait for its images, not for their own.
    first = advised(found)
    assert first.rule in ("data", "late_rank")
    assert "train.prefetch" in first.setting
    assert max(one.median["data"] for one in found.ranks) > 0.3 * found.parts["step"]
    found = analyse(read_profiles(find_profiles([of_one])))
    assert (1, "data") in [(late.rank, late.cause) for late in found.stragglers]
    first = advised(found)
    assert first.what == "rank 1 makes the others wait (data)"
    assert "train.prefetch" in first.setting


def advised(found: Analysis) -> Advice:
    """The first advice, but for a single step in which the whole machine stood still."""
    return next(one for one in found.advice if one.rule != "stall")


def test_nothing_is_asked_of_a_training_that_does_not_run(tmp_path: Path) -> None:
    refused = run_program("profile", "start", tmp_path)
    assert refused.returncode == 2
    assert "does not run" in refused.stderr
