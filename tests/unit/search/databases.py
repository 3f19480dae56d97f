"""Studies in SQLite for the tests."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

from tests.unit.search.studies import EPOCHS, spec_of
from unet_dist.search import words
from unet_dist.search.database import Database
from unet_dist.search.trials import Trial


@cache
def empty_database() -> bytes:
    """Optuna's tables, which take it 0.2 s to make."""
    with TemporaryDirectory() as folder:
        RDBStorage(f"sqlite:///{folder}/study.db")
        return (Path(folder) / "study.db").read_bytes()


def opened(tmp_path: Path, **settings: object) -> Database:
    spec, path = spec_of(**settings), tmp_path / "study.db"
    if not path.exists():
        path.write_bytes(empty_database())
    return Database.open(f"sqlite:///{tmp_path}/study.db", "study", spec, final_epoch=EPOCHS)


def trial(number: int, **settings: object) -> Trial:
    return Trial(number=number, params={"train.lr": 0.01, "model.width": 8}, **settings)  # type: ignore[arg-type]


def lose_the_first_answer(monkeypatch: pytest.MonkeyPatch, word: str) -> list[Any]:
    """The first one of a word of ``search.words``, after it was done; the list fills with all."""
    answers, said = list[Any](), getattr(words, word)

    def lost(*arguments: Any, **named: Any) -> Any:
        answers.append(said(*arguments, **named))
        if len(answers) == 1:
            raise StorageInternalError("the connection broke")
        return answers[-1]

    monkeypatch.setattr("unet_dist.search.storage.DELAYS_S", (0.0, 0.0))
    monkeypatch.setattr(f"unet_dist.search.database.{word}", lost)
    return answers
