"""Which forms are measured, and what is told of their rounds."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.deployed import untrained_run
from unet_dist.cli.deploy import _table
from unet_dist.cluster.host import usable_cores
from unet_dist.deploy.bench import (
    Form,
    Measured,
    choose_images,
    dice_warnings,
    forms_of,
    measure,
    run_of,
    scatter_warnings,
    speeds,
)
from unet_dist.deploy.export import onnx_bytes
from unet_dist.deploy.model_file import ModelFile
from unet_dist.deploy.parity import untold
from unet_dist.deploy.source import open_source
from unet_dist.errors import UserError
from unet_dist.runs import write_json


def measured(name: str, form: str, seconds: list[float], *, dice: float | None = 0.8) -> Measured:
    return Measured(
        form=Form(name=name, form=form),
        dice=dice,
        executed={},
        seconds=seconds,
        network_seconds=[0.5],
    )


def test_speeds_are_medians_against_mindspore() -> None:
    rounds = [measured("n", "mindspore", [2.0, 4.0, 1.0]), measured("q", "onnx", [0.5, 0.25, 0.4])]
    native, small = speeds(rounds, images=4)
    assert (native.fps, native.fps_least, native.fps_most) == (2.0, 1.0, 4.0)
    assert small.fps == pytest.approx(10)  # 4 / 0.4
    assert small.times_native == pytest.approx(5)
    assert small.network_fps == 8
    (alone,) = speeds(rounds[1:], images=4)
    assert alone.times_native is None
    assert (native.times_first, alone.times_first) == (1, 1)
    assert small.times_first == pytest.approx(5)


def test_an_even_number_of_rounds_is_no_faster_than_its_network() -> None:
    rounds = replace(measured("q", "onnx", [1.0, 4.0]), network_seconds=[0.9, 3.9])
    (found,) = speeds([rounds], images=4)
    assert (found.fps_least, found.fps_most) == (1.0, 4.0)
    assert found.fps == pytest.approx(4 / 2.5)  # the mean of both speeds is 2.5
    assert found.network_fps == pytest.approx(4 / 2.4)


def test_rounds_that_scatter_are_warned_of() -> None:
    calm, busy = speeds(
        [measured("calm", "onnx", [1.0, 1.5]), measured("busy", "onnx", [1.0, 1.6])], images=3
    )
    (warning,) = scatter_warnings([calm, busy])
    assert "the rounds of busy differ by 1.6 times" in warning


def test_forms_that_are_worse_than_the_first_are_warned_of() -> None:
    dices = {"first": 0.768, "better": 0.8, "within": 0.763, "worse": 0.7629, "none": None}
    rounds = [measured(name, "onnx", [1.0], dice=dice) for name, dice in dices.items()]
    (warning,) = dice_warnings(speeds(rounds, images=3))
    assert "the Dice of worse is 0.7629 where first has 0.7680" in warning
    assert dice_warnings(speeds(rounds[::-1], images=3)) == []  # nothing to compare with


def test_tiles_of_another_side_are_refused_where_norms_depend_on_them(tmp_path: Path) -> None:
    run, _ = untrained_run(tmp_path, "model.norm=group")  # evaluate.tile is 32
    form = Form(name="none", form="onnx", file=str(tmp_path / "none"), runtime="onnxruntime")
    with pytest.raises(UserError, match=r"--tile: is 48, but model\.norm group .*tile 32"):
        measure(
            run,
            [form],
            split="train",
            ids=[],
            cores=usable_cores()[:1],
            tta="none",
            tile=48,
            rounds=1,
            on_form=untold,
        )


def test_without_mindspore_times_are_against_the_first_row() -> None:
    found = speeds([measured("a", "onnx", [1.0]), measured("b", "onnx", [0.25])], images=3)
    assert [line.split()[3] for line in _table(found, "title").splitlines()[2:]] == ["1.00", "4.00"]


def test_the_forms_are_those_of_the_files(tmp_path: Path) -> None:
    folder = ModelFile(tmp_path)
    with pytest.raises(UserError, match=r"holds no model\.onnx"):
        forms_of(folder, native=True)
    folder.onnx.write_bytes(b"")
    names = [form.name for form in forms_of(folder, native=True)]
    assert names == [
        "MindSpore float32",
        "ONNX Runtime float32",
        "OpenVINO float32",
        "OpenVINO bf16",
    ]
    folder.int8.write_bytes(b"")
    forms = forms_of(folder, native=False)
    assert [form.name for form in forms][-3:] == [
        "OpenVINO bf16",
        "ONNX Runtime int8",
        "OpenVINO int8",
    ]
    assert [form.hint for form in forms] == ["f32", "f32", "bf16", "f32", "f32"]


def test_one_form_is_measured_on_some_images(tmp_path: Path) -> None:
    run, _ = untrained_run(tmp_path)
    folder = ModelFile(tmp_path / "deployed")
    folder.folder.mkdir()
    folder.onnx.write_bytes(onnx_bytes(open_source(run, opset=17)))
    write_json(folder.export_record(folder.onnx), {"run": str(run.path)})
    source = run_of(folder)
    split, ids = choose_images(source, "train", 2)
    assert split == "train"
    assert len(ids) == 2
    form = forms_of(folder, native=False)[0]

    measured = partial(
        measure,
        source,
        split=split,
        ids=ids,
        cores=usable_cores()[:1],
        tta="none",
        on_form=untold,
    )

    (found,) = measured([form], tile=48, rounds=2)

    assert found.fps_least <= found.fps <= found.fps_most
    assert 0 < found.fps <= found.network_fps  # every round has its network in it
    assert found.dice is not None
    assert found.bytes == folder.onnx.stat().st_size

    missing = Form(name="none", form="onnx", file=str(tmp_path / "none"), runtime="onnxruntime")
    with pytest.raises(UserError, match=r"could not be measured: .*none"):
        measured([missing], tile=0, rounds=1)
