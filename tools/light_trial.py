"""A rank of a trial that trains nothing: for ``tools/search_chaos.py`` and the tests of searches.

It goes through the files of a run as a real rank does: records, checkpoints, answers at rungs. Its
Dice follows a formula of the settings, so that a search has something to find.

    EPOCH_S=0.05 python tools/light_trial.py     # started by a search in place of real ranks
"""

import json
import math
import os
import time
from pathlib import Path

from unet_dist.heartbeat import ENVIRONMENT as HEARTBEAT
from unet_dist.heartbeat import Heartbeat
from unet_dist.records import RecordWriter
from unet_dist.runs import AttemptDir, RunDir, read_json, write_json
from unet_dist.train.rungs import goes_on

STEPS_PER_EPOCH = 2


def main() -> None:
    attempt = AttemptDir(Path(os.environ[HEARTBEAT]).parents[1])
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
    job = read_json(attempt.plan)["job"]
    run, heartbeat = RunDir(Path(job["run"])), Heartbeat.of_this_rank()
    config = run.load_config()
    epoch_s = float(os.environ.get("EPOCH_S", "0.02"))
    epoch = newest(run) if job["resume"] else 0
    with RecordWriter(run.records(rank), resume_step=epoch * STEPS_PER_EPOCH) as records:
        total = config.train.epochs * STEPS_PER_EPOCH
        records.write(
            "start",
            step=epoch * STEPS_PER_EPOCH,
            ranks=1,
            batch=config.train.batch,
            images_per_rank=config.train.batch,
            accumulation=1,
            crops=config.train.batch * STEPS_PER_EPOCH,
            crop_size=[32, 32],
            steps_per_epoch=STEPS_PER_EPOCH,
            total_steps=total,
            parameters=config.model.width**2 * 1000,
        )
        if epoch in job["rungs"] and not goes_on(run, epoch, epoch * STEPS_PER_EPOCH, heartbeat):
            answer(attempt, rank, {"paused_at_epoch": epoch, "step": epoch * STEPS_PER_EPOCH})
            return
        while epoch < config.train.epochs:
            if attempt.stop_request.exists():
                answer(attempt, rank, {"stopped_at_step": epoch * STEPS_PER_EPOCH})
                return
            time.sleep(epoch_s)
            epoch += 1
            step = epoch * STEPS_PER_EPOCH
            heartbeat.beat("step", step=step)
            judged = epoch in job["rungs"] or epoch == config.train.epochs
            if judged:
                dice = dice_after(config.train.lr, config.model.width, epoch)
                facts = {"dice": dice, "iou": dice / 2, "threshold": 0.5, "best": True}
                records.write("eval", step=step, epoch=float(epoch), split="val", **facts)
            if rank == 0:
                write_json(run.checkpoints / f"step_{step:06d}" / "state.json", {"epoch": epoch})
                records.write("checkpoint", step=step)
            if epoch in job["rungs"] and not goes_on(run, epoch, step, heartbeat):
                answer(attempt, rank, {"paused_at_epoch": epoch, "step": step})
                return
    answer(attempt, rank, {"trained_to_step": epoch * STEPS_PER_EPOCH})


def dice_after(rate: float, width: int, epoch: int) -> float:
    """The best is near a rate of 6e-3."""
    final = 0.8 - 0.05 * (math.log10(rate) + 2.2) ** 2 + 0.01 * math.log2(width)
    return final * (1 - math.exp(-epoch / 5))


def newest(run: RunDir) -> int:
    states = [json.loads(p.read_text())["epoch"] for p in run.checkpoints.glob("step_*/state.json")]
    return max(states, default=0)


def answer(attempt: AttemptDir, rank: int, value: dict[str, object]) -> None:
    if rank == 0:
        write_json(attempt.result(), value)


if __name__ == "__main__":
    main()
