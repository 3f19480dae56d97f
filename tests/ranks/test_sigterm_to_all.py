"""SIGTERM to every process of a training at once, as systemd sends it, and Slurm where it is told
to signal all processes of a step."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.conftest import wait_for_step
from tests.ranks.test_hosts import (
    TwoParts,
    assert_nothing_survives,
    assert_stopped_at_one_step_with_a_checkpoint,
    ended,
    start,
)
from unet_dist.cluster.guard import descendants
from unet_dist.cluster.host import free_port


def terminate(*launchers: int) -> None:
    """The ranks and what starts them first, so that they cannot have been told before."""
    below = [pid for launcher in launchers for pid in descendants(launcher)]
    for pid in (*reversed(below), *launchers):
        os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("comm", ["mpi", "mindspore"])
def test_all_ranks_stop_at_one_step_with_a_checkpoint(
    tmp_path: Path, tiny: list[str], comm: str
) -> None:
    run = tmp_path / "run"
    where = ["--simulate", "2", "--comm", comm, "--run", str(run)]
    process = start(sys.executable, "-m", "unet_dist", "train", *tiny, "train.epochs=500", *where)
    wait_for_step(run, 3)
    terminate(process.pid)
    ended(process, code=130, within_s=20)
    assert_stopped_at_one_step_with_a_checkpoint(run)
    assert_nothing_survives(run)


def test_all_processes_of_one_part_take_the_other_part_along(
    tmp_path: Path, tiny: list[str]
) -> None:
    run = tmp_path / "run"
    both = TwoParts(run, free_port()).start(*tiny, "train.epochs=5000")
    wait_for_step(run, 3)
    terminate(both[0].pid)
    for process in both:
        ended(process, code=130, within_s=20)
    assert_stopped_at_one_step_with_a_checkpoint(run)
    assert_nothing_survives(run)
