"""One rank predicts its images, with small untrained networks."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.light import Alone
from unet_dist.config_file import build_config
from unet_dist.data.dataset import Normalisation
from unet_dist.data.masks import MaskCoding
from unet_dist.evaluate.finished import file_digest
from unet_dist.evaluate.forward import Member, new_predictor
from unet_dist.evaluate.numbering import Numbering
from unet_dist.evaluate.prediction_task import PredictionSettings
from unet_dist.evaluate.predictor import Predictor
from unet_dist.evaluate.structure import DIVISION
from unet_dist.model.unet import build_unet
from unet_dist.records import RecordWriter, read_records
from unet_dist.runs import AttemptDir, read_json
from unet_dist.train import predict

CONFIG = build_config(
    {},
    ["data.channels=grey", "model.width=4", "model.depth=1", "evaluate.tile=16"],
    where="test",
)


def predictor_of(*seeds: int) -> Predictor[Member]:
    """An ensemble of untrained networks."""
    predictor = new_predictor(CONFIG, [Normalisation((0.5,), (0.2,))] * len(seeds))
    for member, seed in zip(predictor.members, seeds, strict=True):
        net = build_unet(CONFIG.model, in_channels=1, classes=2, seed=seed)
        member.load({p.name: np.array(p.asnumpy()) for p in net.get_parameters()})
    return predictor


def stack(folder: Path, pages: int) -> list[dict[str, Any]]:
    """A TIFF of equal pages, each an image as the ranks are told of it."""
    page = np.random.default_rng(0).integers(0, 256, (24, 20)).astype(np.uint8)
    tifffile.imwrite(folder / "s.tif", np.stack([page] * pages), photometric="minisblack")
    path = str(folder / "s.tif")
    told = {
        "path": path,
        "truth": None,
        "fov": None,
        "sample": "",
        "left_out_by": "",
        "trained_on": False,
    }
    return [{**told, "page": n, "stem": f"s_{n}"} for n in range(pages)]


def run(
    predictor: Predictor[Member],
    images: list[dict[str, Any]],
    folder: Path,
    *,
    stop_requested: Callable[[], bool] = lambda: False,
    skipped: int = 0,
    numbering: Numbering | None = None,
) -> dict[str, Any]:
    settings = PredictionSettings(
        config=CONFIG,
        threshold=0.5,
        uncertainty="none",
        coding=MaskCoding(kind="binary", classes=2, values=(0, 255), shares={}),
        made_by={"weights": ["w"]},
        numbering=numbering,
    )
    attempt = AttemptDir(folder)
    job = {"images": images, "out": str(folder / "out"), "skipped": skipped, "trained_on": 1}
    with RecordWriter(folder / "records.jsonl") as records:
        predict.predict_images(
            job, predictor, settings, 1, records, attempt, Alone(), stop_requested=stop_requested
        )
    return read_json(attempt.result())


def test_a_stack_is_hashed_once_for_all_of_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed, digest = [], hashlib.file_digest

    def counted(stream: BinaryIO, name: str) -> Any:
        hashed.append(stream.name)
        return digest(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    result = run(predictor_of(1), stack(tmp_path, 3), tmp_path)
    assert [one["stem"] for one in result["written"]] == ["s_0", "s_1", "s_2"]
    assert hashed == [str(tmp_path / "s.tif")]
    record = read_json(tmp_path / "out" / "s_1_prediction.json")
    assert record["image_sha256"] == file_digest(tmp_path / "s.tif")


def test_an_image_is_predicted_by_the_one_member_that_left_it_out(tmp_path: Path) -> None:
    images = stack(tmp_path, 2)
    images[1] |= {"sample": "x", "left_out_by": "fold_1", "trained_on": True}
    ensemble = predictor_of(1, 2)
    ensemble.left_out_by = {"x": 1}
    together, alone = (tmp_path / name for name in ("together", "alone"))
    for predictor, folder in ((ensemble, together), (predictor_of(2), alone)):
        folder.mkdir()
        run(predictor, images, folder)
    probability = [
        np.asarray(Image.open(folder / "out" / f"s_{page}_probability.png")).astype(int)
        for folder, page in ((together, 0), (together, 1), (alone, 1))
    ]
    assert np.array_equal(probability[1], probability[2])
    assert not np.array_equal(probability[0], probability[1])
    record = read_json(together / "out" / "s_1_prediction.json")
    assert record["made_by"] == {"weights": ["w"], "left_out_by": "fold_1"}
    assert record["trained_on"] is True
    record = read_json(together / "out" / "s_0_prediction.json")
    assert record["made_by"] == {"weights": ["w"]}
    assert record["trained_on"] is False
    assert read_json(AttemptDir(together).result())["trained_on"] == 1


def test_a_wish_to_stop_drops_the_image_at_hand_and_says_how_many_are_done(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(
        predictor_of(1),
        stack(tmp_path, 3),
        tmp_path,
        stop_requested=(out / "s_0_prediction.json").exists,
        skipped=2,
    )
    assert (result["images_done"], result["images"]) == (3, 5)
    assert [one["stem"] for one in result["written"]] == ["s_0"]
    assert not list(out.glob("*s_1*"))


def test_numbering_is_a_phase_of_its_own_that_is_shown_and_heeds_a_wish_to_stop(
    tmp_path: Path,
) -> None:
    numbering = Numbering(
        structure="objects", threshold=0.5, min_object=4, cell_smoothing=0.0, division=DIVISION
    )
    images, records = stack(tmp_path, 2), tmp_path / "records.jsonl"

    def phases() -> list[str]:
        return [record["phase"] for record in read_records(records)]

    def second_is_numbered() -> bool:
        return phases().count("numbering objects of s.tif") == 2

    result = run(
        predictor_of(1), images, tmp_path, stop_requested=second_is_numbered, numbering=numbering
    )
    assert (result["images_done"], result["images"]) == (1, 2)
    assert phases().count("measuring objects of s.tif") == 1
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"s_0_objects.png", "s_0_objects.csv"} < names
    assert not any(name.startswith("s_1") for name in names)
