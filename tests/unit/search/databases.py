"""Studies in SQLite for the tests."""

from pathlib import Path

from tests.unit.search.studies import EPOCHS, spec_of
from unet_dist.search.database import Database
from unet_dist.search.trials import Trial


def opened(tmp_path: Path, **settings: object) -> Database:
    spec = spec_of(**settings)
    return Database.open(f"sqlite:///{tmp_path}/study.db", "study", spec, final_epoch=EPOCHS)


def trial(number: int, **settings: object) -> Trial:
    return Trial(number=number, params={"train.lr": 0.01, "model.width": 8}, **settings)  # type: ignore[arg-type]
