import threading
import time
from pathlib import Path

import pytest

from unet_dist.heartbeat import Heartbeat, read_beat
from unet_dist.runs import RunDir
from unet_dist.train.rungs import NO_RUNGS, Rungs, goes_on


def test_a_rung_is_the_end_of_its_epoch() -> None:
    rungs = Rungs(epochs=(2, 6))
    steps = [step for step in range(1, 30) if rungs.epoch_at(step, 3) is not None]
    assert steps == [6, 18]
    assert rungs.epoch_at(18, 3) == 6
    assert NO_RUNGS.epoch_at(3, 3) is None


@pytest.mark.parametrize("answer", [True, False])
def test_all_ranks_wait_for_the_answer_and_read_the_same(tmp_path: Path, answer: bool) -> None:
    run, heard = RunDir(tmp_path), []
    beats = [tmp_path / f"beat_{rank}" for rank in range(3)]

    def wait(rank: int) -> None:
        heard.append(goes_on(run, 3, 12, Heartbeat(beats[rank])))

    ranks = [threading.Thread(target=wait, args=(rank,)) for rank in range(3)]
    for rank in ranks:
        rank.start()
    time.sleep(0.2)
    assert heard == []
    for path in beats:
        beat = read_beat(path)
        assert beat is not None
        assert (beat.phase, beat.step) == ("rung", 12)
    run.write_answer(3, answer)
    for rank in ranks:
        rank.join(5)
    assert heard == [answer] * 3
    assert run.answer(9) is None
