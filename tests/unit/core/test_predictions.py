"""What ``predict`` knows of its images before a rank starts."""

import hashlib
import io
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import tifffile
from rich.console import Console

from unet_dist.cli.folds import configs_of, write_down
from unet_dist.config import Config
from unet_dist.config_file import build_config
from unet_dist.data.manifest import read_manifest
from unet_dist.data.sample import ImageRef
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError
from unet_dist.evaluate.finished import PredictionRecord, file_digest, show_results, unfinished
from unet_dist.evaluate.numbering import numbering_of
from unet_dist.evaluate.structure import DIVISION
from unet_dist.launching.copies import Copies
from unet_dist.launching.datasets import begin_ensemble
from unet_dist.launching.describe import describe_predictions
from unet_dist.launching.predictions import Training, check_views, list_inputs
from unet_dist.runs import Members, RunDir, read_json, write_json

MADE = {"weights": ["w"]}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "vessels"
    write_synthetic("vessels", folder, count=6, size=32, seed=0)
    return folder


def begun(run: RunDir, images: Path, vary: str, *overrides: str) -> Config:
    """Two folds, or seeds, that have their data set."""
    overrides = (f"data.root={images}", "data.split.test=0.2", *overrides)
    config = build_config({}, overrides, where="test")
    tree = {"vary": vary, "values": [0, 1], "parallel": 1, "placement": {}}
    members = Members.of_json(tree)
    configs = dict(zip(members.names, configs_of(config, vary, members.values), strict=True))
    with run.locked():
        begin_ensemble(run, configs, Console(file=io.StringIO()))
    write_down(run, members, configs, config)
    return config


def listed_of(run: RunDir, config: Config, paths: list[Path]) -> dict[str, dict[str, Any]]:
    dataset, _ = read_manifest(run.dataset, config.data)
    listed, _ = list_inputs(paths, None, dataset, run)
    return {one["stem"]: one for one in listed}


@pytest.mark.parametrize("fov", ["none", "file"])
def test_an_image_of_the_data_set_has_its_mask_and_its_field_of_view(
    tmp_path: Path, images: Path, fov: str
) -> None:
    run = RunDir(tmp_path / "run")
    config = begun(run, images, "seed", f"data.fov={fov}", "data.fov_masks=fov")
    listed = listed_of(run, config, [images / "images"])
    assert len(listed) == 6
    folders = {stem: Path(one["truth"]["path"]).parent.name for stem, one in listed.items()}
    assert set(folders.values()) == {"masks"}
    views = [Path(one["fov"]["path"]).parent.name for one in listed.values() if one["fov"]]
    assert views == ["fov"] * 6 * (fov == "file")


def test_an_image_of_the_data_set_is_predicted_by_the_fold_that_left_it_out(
    tmp_path: Path, images: Path
) -> None:
    run = RunDir(tmp_path / "run")
    config = begun(run, images, "fold")
    elsewhere = tmp_path / "elsewhere.png"
    # Another file, though it shows the same.
    elsewhere.write_bytes(next((images / "images").iterdir()).read_bytes() + b"\0")
    listed = listed_of(run, config, [images / "images", elsewhere])
    left_out = {
        sample["id"]: name
        for name in ("fold_0", "fold_1")
        for sample in read_json(run.member(name).dataset)["splits"]["val"]
    }
    test = {sample["id"] for sample in read_json(run.dataset)["splits"]["test"]}
    assert test
    assert len(left_out) + len(test) == 6
    assert {one["sample"]: one["left_out_by"] for one in listed.values()} == {
        **left_out,
        **dict.fromkeys(test, ""),
        "": "",
    }
    assert not any(one["trained_on"] for one in listed.values())
    with pytest.raises(UserError, match=rf"--tta flip or d4, since {len(left_out)} of 7 are"):
        check_views(run, list(listed.values()))
    check_views(run, [listed["elsewhere"]])


def test_training_images_of_seeds_are_told(tmp_path: Path, images: Path) -> None:
    run = RunDir(tmp_path / "run")
    listed = listed_of(run, begun(run, images, "seed"), [images / "images"])
    trained_on = {
        sample["id"]
        for name in ("seed_0", "seed_1")
        for sample in read_json(run.member(name).dataset)["splits"]["train"]
    }
    assert 0 < len(trained_on) < 6
    assert {one["sample"] for one in listed.values() if one["trained_on"]} == trained_on
    assert not any(one["left_out_by"] for one in listed.values())
    check_views(run, list(listed.values()))


def test_a_copy_of_a_training_image_is_recognised_by_its_content(
    tmp_path: Path, images: Path
) -> None:
    ensemble = RunDir(tmp_path / "run")
    config = begun(ensemble, images, "seed")
    run = ensemble.member("seed_0")
    splits = read_json(run.dataset)["splits"]
    seen, kept = splits["train"][0], splits["test"][0]
    copies = tmp_path / "copies"
    copies.mkdir()
    for name, sample in (("b", seen), ("c", kept)):
        source = images / "images" / Path(sample["image"]["path"]).name
        shutil.copy(source, copies / f"{name}.png")
    changed = bytearray((copies / "b.png").read_bytes())
    changed[-1] ^= 1  # as large, and the same in its middle
    (copies / "d.png").write_bytes(changed)
    listed = listed_of(run, config, [copies])
    assert {stem: (one["sample"], one["trained_on"]) for stem, one in listed.items()} == {
        "b": (seen["id"], True),
        "c": (kept["id"], False),
        "d": ("", False),
    }
    (images / "images").rename(images / "elsewhere")
    try:
        assert listed_of(run, config, [copies])["b"]["sample"] == ""
    finally:
        (images / "elsewhere").rename(images / "images")


def test_an_image_that_two_folds_hold_was_left_out_by_none(tmp_path: Path) -> None:
    refs = []
    for name in ("a", "b", "c", "new"):
        (tmp_path / name).write_bytes(b"x" * 9000 if name in "ab" else name.encode() * 9000)
        refs.append(ImageRef(path=tmp_path / name))
    a, b, c, new = refs
    copies = Copies({a: "a", b: "b", c: "c", ImageRef(path=tmp_path / "moved"): "d"})
    copy = tmp_path / "copy"
    copy.write_bytes(b"x" * 9000)
    assert copies.ids_of(ImageRef(path=copy)) == ["a", "b"]
    assert copies.ids_of(ImageRef(path=copy, page=1)) == []
    assert copies.ids_of(new) == []
    training = Training(
        sample_ids={}, trained_on=frozenset({"c"}), left_out_by={"a": "fold_0", "b": "fold_1"}
    )
    assert training.of(["a", "b"]) == ("", True)
    assert training.of(["a"]) == ("a", False)
    assert training.of(["d", "c"]) == ("d", True)
    assert training.of([]) == ("", False)


def test_training_images_of_a_run_are_told_and_it_has_one_view(
    tmp_path: Path, images: Path
) -> None:
    ensemble = RunDir(tmp_path / "run")
    config = begun(ensemble, images, "seed")
    run = ensemble.member("seed_0")  # a run folder like any other
    listed = listed_of(run, config, [images / "images"])
    trained_on = {sample["id"] for sample in read_json(run.dataset)["splits"]["train"]}
    assert {one["sample"] for one in listed.values() if one["trained_on"]} == trained_on
    with pytest.raises(UserError, match="std needs several views"):
        check_views(run, list(listed.values()))


def test_the_summary_says_how_many_images_were_trained_on(tmp_path: Path, images: Path) -> None:
    run = RunDir(tmp_path / "run")
    begun(run, images, "seed")
    answer: dict[str, Any] = {
        "written": [{}] * 5,
        "skipped": 0,
        "trained_on": 3,
        "left_out": 0,
        "faults": [],
    }
    assert "3 of the images were trained on" in describe_predictions(
        run.load_config().data.names, "out", "done", answer
    )
    answer["trained_on"] = 0
    assert "trained on" not in describe_predictions(
        run.load_config().data.names, "out", "done", answer
    )


def test_scores_against_truths_are_told_and_whose_prediction_an_image_of_folds_is() -> None:
    pixels = {"correct (TP)": 1_000, "false (FP)": 200, "missed (FN)": 50}
    written = [{"stem": "a", "pixels": pixels}, {"stem": "b", "pixels": pixels}, {"stem": "c"}]
    answer = {"written": written, "skipped": 0, "trained_on": 0, "left_out": 2, "faults": []}
    text = describe_predictions(["background", "cell"], "out", "done", answer)
    assert "2 images of the data set, each predicted by the one fold that left it out" in text
    assert (
        "pixels of 2 images against the truth: correct (TP) 2,000, false (FP) 400, missed (FN) "
        "100; Dice 0.8889, pooled"
    ) in text
    classes = {"of the right class": 3, "of another class, or background in truth": 4}
    answer = {**answer, "written": [{"stem": "a", "pixels": classes}], "left_out": 0}
    text = describe_predictions(["background", "a", "b"], "out", "done", answer)
    assert "of the right class 3, of another class, or background in truth 4, pooled" in text
    assert "fold" not in text
    nothing = {**answer, "written": [{"stem": "a", "pixels": dict.fromkeys(pixels, 0)}]}
    assert "Dice" not in describe_predictions(["background", "cell"], "out", "done", nothing)


def test_equal_notes_are_told_once_and_none_hides_another_kind() -> None:
    plain = "all of it is predicted"
    written: list[dict[str, Any]] = [{"stem": f"s{n}", "notes": [plain]} for n in range(7)]
    written[6]["notes"] = [plain, "its brightest pixel is 0.062"]
    written += [{"stem": f"d{n}", "notes": [f"its brightest pixel is 0.0{n}"]} for n in range(5)]
    written.append({"stem": "large", "notes": ["its cells are not numbered"]})
    answer = {"written": written, "skipped": 1, "trained_on": 1, "left_out": 0, "faults": []}
    lines = describe_predictions(["background", "cell"], "out", "done", answer).splitlines()
    assert lines == [
        "13 predictions in out, 1 was there already",
        "1 of the images was trained on: expect more errors on new ones",
        f"7 images: {plain}",
        "s6: its brightest pixel is 0.062",
        *(f"d{n}: its brightest pixel is 0.0{n}" for n in range(4)),
        "and 1 more such note",
        "large: its cells are not numbered",
    ]
    alone = {**answer, "written": [{"stem": "one", "notes": [plain]}], "skipped": 0}
    lines = describe_predictions(["background", "cell"], "out", "done", alone).splitlines()
    assert [lines[0], lines[2]] == ["1 prediction in out", f"one: {plain}"]


def test_a_stack_is_hashed_once_to_find_which_of_its_pages_are_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = tmp_path / "s.tif"
    tifffile.imwrite(stack, np.zeros((6, 8, 8), np.uint8), photometric="minisblack")
    out = tmp_path / "out"
    out.mkdir()
    listed = []
    for page in range(6):
        stem, ref = f"s_{page}", ImageRef(path=stack, page=page)
        (out / f".{stem}.part").write_bytes(b"mask")
        record = PredictionRecord(
            image=ref,
            image_sha256=file_digest(stack),
            truth_sha256="",
            height=8,
            width=8,
            factor=1.0,
            made_by=MADE,
            trained_on=False,
            files=(f"{stem}_mask.png",),
            pixels={},
        )
        if page < 4:
            show_results(out, stem, record, {out / f"{stem}_mask.png": out / f".{stem}.part"})
        listed.append(
            {
                "path": str(stack),
                "page": page,
                "stem": stem,
                "truth": None,
                "fov": None,
                "left_out_by": "",
            }
        )
    hashed, digest = [], hashlib.file_digest

    def counted(stream: BinaryIO, name: str) -> Any:
        hashed.append(stream.name)
        return digest(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    assert [image["stem"] for image in unfinished(out, listed, MADE)] == ["s_4", "s_5"]
    assert hashed == [str(stack)]


def test_objects_are_found_as_by_the_last_evaluation(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert numbering_of(run) is None
    structure = {
        "kind": "objects",
        "threshold": 0.7,
        "min_object": 16,
        "cell_smoothing": 2.0,
        "division": DIVISION,
    }
    write_json(run.evaluation("val"), {"structure": {**structure, "threshold": 0.4}})
    write_json(run.evaluation("test"), {"structure": structure})
    os.utime(run.evaluation("val"), (1, 1))
    found = numbering_of(run)
    assert found is not None
    assert (found.name, found.threshold, found.min_object) == ("objects", 0.7, 16)
    write_json(run.evaluation("test"), {"structure": {**structure, "kind": "region"}})
    assert numbering_of(run) is None
    older = {key: value for key, value in structure.items() if key != "division"}
    for faulty in ({}, {"structure": older}, {"structure": {**structure, "division": 1}}):
        write_json(run.evaluation("test"), faulty)
        with pytest.raises(UserError, match="unet-dist eval"):
            numbering_of(run)
