"""How far a long validation is, on a terminal and for the watch."""

from pathlib import Path

import pytest

from tests.light import Alone
from unet_dist.data.sample import ImageRef, Sample
from unet_dist.heartbeat import Heartbeat, read_beat
from unet_dist.records import RecordWriter, read_records
from unet_dist.train import training

SAMPLES = [
    Sample(id=str(number), group=str(number), image=ImageRef(path=Path("x")), mask=None)
    for number in range(3)
]


@pytest.mark.parametrize(("every_s", "told"), [(0.0, [0, 2]), (3600.0, [])])
def test_only_a_long_validation_says_how_far_all_ranks_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_s: float, told: list[int]
) -> None:
    monkeypatch.setattr(training, "TOLD_EVERY_S", every_s)
    comm = Alone()
    comm.world, comm.heartbeat = 2, Heartbeat(tmp_path / "beat")
    with RecordWriter(tmp_path / "records.jsonl") as records:
        on_image = training.telling(comm, records, 7, SAMPLES)
        for done in (0, 1, 2):  # of this rank's share
            on_image(done, 2)
    found = list(read_records(tmp_path / "records.jsonl"))
    assert [(one["done"], one["total"]) for one in found] == [(done, 3) for done in told]
    assert all((one["step"], one["phase"]) == (7, "validating") for one in found)
    beat = read_beat(tmp_path / "beat")
    assert beat is not None
    assert (beat.phase, beat.step, beat.doing) == ("validation", 7, "comparing")
