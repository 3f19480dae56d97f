from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet_dist.data.sample import ImageRef
from unet_dist.errors import UserError
from unet_dist.evaluate.finished import (
    PredictionRecord,
    file_digest,
    is_finished,
    made_alone,
    record_path,
    refuse_to_replace,
    show_results,
)

MADE_BY = {"weights": ["abc"], "evaluate.tta": "none"}


@pytest.fixture
def image(tmp_path: Path) -> ImageRef:
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(path)
    return ImageRef(path=path)


@pytest.fixture
def out(tmp_path: Path, image: ImageRef) -> Path:
    """A folder with the results of the image."""
    folder = tmp_path / "out"
    folder.mkdir()
    parts = {folder / "a_mask.png": folder / ".a_mask.png.1.part"}
    for part in parts.values():
        part.write_bytes(b"mask")
    record = PredictionRecord(
        image=image,
        image_sha256=file_digest(image.path),
        truth_sha256="",
        height=3,
        width=4,
        factor=1.0,
        made_by=MADE_BY,
        trained_on=False,
        files=("a_mask.png",),
        pixels={},
    )
    show_results(folder, "a", record, parts)
    return folder


def test_results_of_the_same_image_and_settings_are_finished(out: Path, image: ImageRef) -> None:
    assert sorted(path.name for path in out.iterdir()) == ["a_mask.png", "a_prediction.json"]
    assert is_finished(out, "a", image, None, MADE_BY) == (True, "")
    assert is_finished(out, "b", image, None, MADE_BY) == (False, "")


def test_a_copy_of_the_image_elsewhere_is_the_same_image(
    out: Path, image: ImageRef, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(image.path.read_bytes())
    assert is_finished(out, "a", ImageRef(path=copy), None, MADE_BY) == (True, "")


def test_what_has_lost_a_file_or_its_record_is_predicted_again(out: Path, image: ImageRef) -> None:
    (out / "a_mask.png").unlink()
    assert is_finished(out, "a", image, None, MADE_BY) == (False, "")
    (out / "a_mask.png").write_bytes(b"mask")
    record_path(out, "a").write_text("{")
    assert is_finished(out, "a", image, None, MADE_BY) == (False, "")


def test_other_settings_and_another_image_are_named(out: Path, image: ImageRef) -> None:
    changed = {**MADE_BY, "evaluate.tta": "d4", "uncertainty": "std"}
    finished, conflict = is_finished(out, "a", image, None, changed)
    assert not finished
    assert conflict == "a: evaluate.tta was none, now d4, uncertainty was None, now std"
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(image.path)
    assert is_finished(out, "a", image, image, MADE_BY) == (
        False,
        "a: the image is another, the truth is another",
    )


def test_what_a_single_member_predicts_is_not_what_all_do(out: Path, image: ImageRef) -> None:
    assert made_alone(MADE_BY, "") == MADE_BY
    alone = made_alone(MADE_BY, "fold_1")
    _, conflict = is_finished(out, "a", image, None, alone)
    assert conflict == "a: left_out_by was None, now fold_1"


def test_another_page_of_the_same_stack_is_another_image(tmp_path: Path, out: Path) -> None:
    stack = tmp_path / "a.png"
    assert is_finished(out, "a", ImageRef(path=stack, page=1), None, MADE_BY) == (
        False,
        "a: the image is another",
    )


def test_a_conflict_names_the_ways_out(tmp_path: Path) -> None:
    refuse_to_replace(tmp_path, [])
    with pytest.raises(UserError) as caught:
        refuse_to_replace(tmp_path, [f"{n}: the image is another" for n in range(20)])
    assert "7: the image is another" in str(caught.value)
    assert "and 12 more" in str(caught.value)
    assert "the results of 20 images were made otherwise: add --force" in str(caught.value)
    assert "another --out" in str(caught.value)
    assert "problems" not in str(caught.value)


def test_a_record_is_gone_before_its_files_are_replaced(out: Path, image: ImageRef) -> None:
    record = PredictionRecord(
        image=image, image_sha256="", truth_sha256="", height=3, width=4, factor=1.0, made_by={},
        trained_on=False, files=("a_mask.png",), pixels={},
    )  # fmt: skip
    with pytest.raises(FileNotFoundError):
        show_results(out, "a", record, {out / "a_mask.png": out / "missing.part"})
    assert not record_path(out, "a").exists()
