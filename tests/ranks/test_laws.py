"""The laws of data-parallel training, proved by trainings on real ranks."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import (
    digests_of,
    json_of,
    run_program,
    start_training,
    steps_of,
    train,
    wait_for_step,
)
from unet_dist.cluster.plan import find_mpirun
from unet_dist.data.synthetic import write_synthetic
from unet_dist.runs import RunDir, read_json
from unet_dist.train.checkpoint import load_latest

SGD = ["train.optimizer=sgd", "train.lr=0.05"]


def losses(run: Path) -> list[float]:
    return list(steps_of(run, "loss"))


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        (["model.norm=group", "train.optimizer=adamw"], 1e-4),
        (["model.norm=sync_batch", *SGD], 1e-5),
        (["model.norm=group", "model.dropout=0.3", "train.accumulation=1", *SGD], 1e-5),
    ],
    ids=["group-adamw", "sync_batch-sgd", "dropout-sgd"],
)
def test_law_1_four_ranks_of_one_image_are_one_rank_of_four(
    tmp_path: Path, tiny: list[str], settings: list[str], tolerance: float
) -> None:
    for ranks in (1, 4):
        train(*tiny, *settings, "--simulate", ranks, "--run", tmp_path / str(ranks))
    alone, shared = losses(tmp_path / "1"), losses(tmp_path / "4")
    assert len(alone) == 10
    np.testing.assert_allclose(shared, alone, rtol=tolerance)
    assert alone[-1] < alone[0], "nothing was learnt, so equality would prove nothing"
    # Rank 0 writes a checkpoint only after the digests of all ranks were equal.
    assert list(digests_of(tmp_path / "4")) == [10]


def test_accumulation_equals_the_whole_batch(tmp_path: Path, tiny: list[str]) -> None:
    train(*tiny, *SGD, "--run", tmp_path / "whole")
    train(*tiny, *SGD, "train.accumulation=2", "--simulate", 2, "--run", tmp_path / "parts")
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(tmp_path / "whole"), rtol=1e-5)


def test_law_2_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, tiny: list[str]) -> None:
    """An epoch of 5 steps with a checkpoint after each epoch; a rank is killed in the second."""
    settings = [
        "augment.crops_per_image=3",
        "train.epochs=3",
        "model.dropout=0.2",
        "model.norm=batch",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(*tiny, *settings, "--simulate", 2, "--run", whole)

    process = start_training(killed, *tiny, *settings, "--max-restarts", 0)
    epoch = next(iter(digests_of(whole)))
    victim = wait_for_rank(killed, 1, step=epoch + 1)
    os.kill(victim, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "rank 1 failed first: ended by SIGKILL" in output

    train(killed, "--resume")
    assert losses(killed) == losses(whole)
    assert digests_of(killed) == digests_of(whole)
    same_weights(killed, whole)


def wait_for_rank(run: Path, rank: int, *, step: int) -> int:
    """The process of a rank, once it has done that step."""
    wait_for_step(run, step, rank=rank)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            opened = {os.readlink(link) for link in (entry / "fd").iterdir()}
        except OSError:
            continue
        if b"unet_dist.train.worker" in command and any(
            str(run) in path and path.endswith(f"rank_{rank:03d}.log") for path in opened
        ):
            return int(entry.name)
    raise AssertionError(f"rank {rank} is not running")


def same_weights(left: Path, right: Path) -> None:
    one, _ = load_latest(RunDir(left).checkpoints)
    two, _ = load_latest(RunDir(right).checkpoints)
    assert one is not None
    assert two is not None
    for part in ("weights", "optimizer", "average"):
        a, b = getattr(one, part), getattr(two, part)
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[name], b[name]) for name in a)


def test_resume_on_another_number_of_ranks(tmp_path: Path, tiny: list[str]) -> None:
    settings = [*SGD, "train.epochs=2", "augment.crops_per_image=3"]
    train(*tiny, *settings, "--simulate", 1, "--run", tmp_path / "whole")
    run = tmp_path / "resized"
    train(*tiny, *settings, "--simulate", 4, "--run", run)
    epoch = min(digests_of(run))
    # Back to the first epoch's checkpoint, as after a kill in the second.
    for old in RunDir(run).checkpoints.glob("step_*"):
        if not old.name.endswith(f"{epoch}"):
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
    train(run, "--resume", "--simulate", 2)
    np.testing.assert_allclose(losses(run), losses(tmp_path / "whole"), rtol=1e-5)


def test_law_3_evaluation_on_many_ranks_equals_one_rank_exactly(
    tmp_path: Path, tiny: list[str]
) -> None:
    run = tmp_path / "run"
    train(*tiny, "--run", run)
    results: list[dict[str, Any]] = []
    for ranks in (1, 3):
        done = run_program("eval", run, "--split", "train", "--simulate", ranks, "--json")
        assert done.returncode == 0, done.stderr
        results.append({k: v for k, v in json_of(done).items() if k != "attempt"})
    assert results[0] == results[1]
    trained_on = read_json(RunDir(run).dataset)["splits"]["train"]
    assert [image["id"] for image in results[0]["per_image"]] == [s["id"] for s in trained_on]


def test_law_5_mpi_and_mindspore_collectives_give_the_same_losses(
    tmp_path: Path, tiny: list[str]
) -> None:
    settings = ["model.norm=sync_batch", "train.accumulation=2"]
    for comm in ("mpi", "mindspore"):
        train(
            *tiny, *SGD, *settings, "--simulate", 2, "--comm", comm,
            "--run", tmp_path / comm,
        )  # fmt: skip
    np.testing.assert_allclose(losses(tmp_path / "mindspore"), losses(tmp_path / "mpi"), rtol=1e-5)


def test_law_6_all_ranks_skip_the_step_in_which_one_overflows() -> None:
    script = Path(__file__).with_name("planted_overflow.py")
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(
        [find_mpirun(), "-n", "2", "--oversubscribe", "--bind-to", "none", sys.executable, script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **root},
    )
    reports = [
        json.loads(line.split(" ", 2)[2])
        for line in done.stdout.splitlines()
        if line.startswith("REPORT")
    ]
    #           overflow, weights changed, loss scale, updates
    expected = [[False, True, 1024.0, 1], [True, False, 512.0, 1], [False, True, 512.0, 2]]
    assert reports == [expected, expected], done.stderr[-2000:]


def test_too_high_a_loss_scale_comes_down_by_halves_on_all_ranks(
    tmp_path: Path, tiny: list[str]
) -> None:
    run = tmp_path / "run"
    train(*tiny, "train.amp=fp16", "train.loss_scale=1e9", "--simulate", 2, "--run", run)
    overflows = steps_of(run, "overflow")
    assert overflows[0]
    scale = 1e9
    for overflow, recorded in zip(overflows, steps_of(run, "loss_scale"), strict=True):
        scale = scale / 2 if overflow else scale
        assert recorded == scale
    assert steps_of(run, "overflow", rank=1) == overflows


def test_law_4_the_default_model_overfits_eight_images(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_synthetic("membranes", data, count=8, size=64, seed=1)
    lists = tmp_path / "lists.yaml"
    ids = sorted(path.stem for path in (data / "images").iterdir())
    lists.write_text(yaml.safe_dump({"train": ids, "val": [], "test": []}))
    still = [f"augment.{key}=0" for key in ("rotate", "scale", "elastic", "brightness", "contrast")]
    train(
        data / "config.yaml", "data.split.by=list", f"data.split.file={lists}", *still,
        "augment.gamma=0", "augment.noise=0", "augment.flip=false", "augment.crop=64",
        "train.epochs=120", "train.lr=0.01", "evaluate.tile=64", "checkpoint.every_epochs=60",
        "--simulate", 2, "--run", tmp_path / "run",
    )  # fmt: skip
    result = read_json(RunDir(tmp_path / "run").evaluation("train"))
    assert result["images"] == 8
    assert result["dice"] > 0.95
