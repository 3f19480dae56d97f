"""Which layers stay in float32, and what is refused."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.deployed import untrained_run
from unet_dist.cli import app
from unet_dist.deploy.choice import Quantised, Validation, choose
from unet_dist.deploy.model_file import ModelFile, metadata_of_onnx
from unet_dist.deploy.parity import Refused
from unet_dist.deploy.ptq import Options, calibrate, evenly, fewest_float_layers
from unet_dist.deploy.quantize import quantise_run
from unet_dist.deploy.runtime import DeployedNetwork, OnnxRuntimeSession
from unet_dist.deploy.source import Source, open_source
from unet_dist.errors import UserError
from unet_dist.report.quantised import headline, notes_of


@pytest.mark.parametrize("needed", range(14))
def test_no_more_layers_stay_in_float_than_must(needed: int) -> None:
    names = [str(number) for number in range(13)]
    asked = []

    def is_good(number: int) -> bool:
        asked.append(number)
        return number >= needed

    assert fewest_float_layers(names, is_good) == needed
    assert len(asked) <= 8  # 0, 1, 2, 4, 8, 13 and halves


def test_layers_that_do_not_help_all_stay() -> None:
    assert fewest_float_layers(["a", "b", "c"], lambda number: False) == 3


GOOD = Quantised(
    content=b"x" * 250,
    float_layers=(),
    sensitivities={"a": 0.1},
    dice={"openvino": 0.797},
    dice_float32=0.8,
    bytes_float32=1000,
    seconds=0.1,
    seconds_float32=0.3,
    layers=1,
    layout="plain",
    bytes_plain=250,
    calibrated_on=4,
    training_images=4,
    validation=Validation(images=4, unit="image", units=4, views=1),
    agreement=None,
)


def test_each_limit_is_told_with_its_values() -> None:
    assert not GOOD.faults(Options())
    assert GOOD.to_json(Options())["speedup"] == pytest.approx(3)
    bad = replace(
        GOOD, content=b"x" * 259, dice={"openvino": 0.794}, seconds=0.31, float_layers=("a",)
    )
    faults = bad.faults(Options())
    assert len(faults) == 3
    assert "0.0060 lost, more than --max-drop 0.005, with 1 layers in float32" in faults[0]
    assert "25.9% of the float32 one (259 of 1,000 bytes)" in faults[1]
    assert "310.0 ms by openvino where float32 takes 300.0 ms" in faults[2]
    assert GOOD.faults(Options(max_size=0.25)) == []  # exactly the limit is within
    assert len(replace(GOOD, dice={"openvino": float("nan")}).faults(Options())) == 1


def test_the_headline_agrees_with_itself_and_tells_on_how_many_images_it_rests() -> None:
    # 0.85565 and 0.85564 are 0.8557 and 0.8556 in four digits: 0.0001 apart, as they are shown.
    close = replace(GOOD, dice_float32=0.855651, dice={"openvino": 0.855649})
    assert headline(close.to_json(Options())) == (
        "8 bits: Dice 0.8556, -0.0001 to float32, on 4 validation images; 25.0% of the size, "
        "3.00 times as fast by openvino"
    )
    assert notes_of(close.to_json(Options(calibrate=4))) == []


def test_few_validation_images_are_told_as_a_training_tells_them() -> None:
    one_patient = Validation(images=2, unit="patient", units=1, views=8)
    few = replace(GOOD, validation=one_patient)
    assert " on 2 validation images;" in headline(few.to_json(Options()))
    [note] = notes_of(few.to_json(Options(calibrate=4)))
    assert "needs 3 patients at least, but those of validation are of 1:" in note
    assert "deploy bench" in note


def test_fewer_training_images_than_asked_for_are_told() -> None:
    [note] = notes_of(GOOD.to_json(Options(calibrate=16)))
    assert note.startswith("calibrated on all of the 4 training images: --calibrate 16")
    # What a training learnt was learnt on all of them.
    assert notes_of(GOOD.to_json(Options(method="qat", calibrate=16))) == []


def test_a_file_of_functions_tells_what_reads_it_and_how_to_get_another() -> None:
    compact = replace(GOOD, layout="compact", bytes_plain=2662, bytes_float32=10_000)
    [note] = notes_of(compact.to_json(Options(calibrate=4)))
    # 2662 of 10000 is more than 0.258; rounded down to 0.266 it would be refused.
    assert "--layout plain --max-size 0.267: 2,662 bytes in place of 250, 26.6% of" in note
    assert "neither OpenVINO itself nor atc" in note
    [note] = notes_of(replace(compact, bytes_plain=2580).to_json(Options(calibrate=4)))
    assert "--layout plain: 2,580 bytes" in note


def test_images_are_taken_from_all_over_the_list() -> None:
    assert evenly(list("abcdef"), 3) == ["a", "c", "e"]  # type: ignore[arg-type]
    assert evenly(list("ab"), 32) == ["a", "b"]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    run, _ = untrained_run(tmp_path_factory.mktemp("quantised"))
    return open_source(run, opset=17)


def test_activations_with_a_sign_are_measured_by_onnx_runtime_alone(
    source: Source, tmp_path: Path
) -> None:
    from unet_dist.deploy.export import onnx_bytes

    options = Options(activations="s8", runtime="onnxruntime", calibrate=2, max_size=1)
    plain = onnx_bytes(source)
    found = choose(source, calibrate(source, options), plain, options, say=lambda line: None)
    assert set(found.dice) == {"onnxruntime"}
    asked = ["quantize", "run", "-o", str(tmp_path), "--activations", "s8", "--runtime", "openvino"]
    with pytest.raises(UserError, match="which OpenVINO computes wrongly"):
        app(asked, standalone_mode=False)


def test_a_refused_model_leaves_nothing_unless_forced(source: Source, tmp_path: Path) -> None:
    from unet_dist.deploy.export import onnx_bytes

    native = DeployedNetwork(OnnxRuntimeSession(onnx_bytes(source)), source.metadata)
    file = ModelFile(tmp_path / "deployed")
    options = Options(max_size=0.0, runtime="onnxruntime", calibrate=2)

    def run(*, force: bool) -> dict[str, Any]:
        make = partial(calibrate, source, options)
        return quantise_run(
            source, native, make, file.folder, options, force=force, say=lambda line: None
        )

    with pytest.raises(Refused, match="more than --max-size 0"):
        run(force=False)
    assert not file.folder.exists()

    record = run(force=True)
    assert metadata_of_onnx(file.int8).precision == "int8"
    assert metadata_of_onnx(file.onnx) == source.metadata
    assert record["bytes"] == file.int8.stat().st_size
    assert abs(record["drop"]) < 0.05
    assert set(record["dice"]) == {"onnxruntime", "openvino"}
    page = file.report.read_text()
    assert headline(record) in page
    assert all(note in page for note in notes_of(record))
    assert "calibrated on" not in page  # 2 of more than 2
    assert "2 of 4 training images, ranges by minmax" in page
    assert page.count("data:image/png") == 2 * len(source.dataset.splits.val)
    assert "Written by --force although its file is" in page
    shown = re.findall(r'<p class="panels" style="--columns: 3">(.*)</p>', page)
    assert len(shown) == 2 * len(source.dataset.splits.val)
    assert set(shown) == {
        "<span>image</span><span>truth</span><span>errors of 8 bits</span>",
        "<span>float32</span><span>8 bits</span><span>8 bits - float32</span>",
    }
    assert "float32 and 8 bits: predicted probability" in page
    # Three pictures of 48 x 48 with 2 gaps of 6 are 156 wide: six times that fits into the text.
    assert page.count("width: min(100%, 936px)") == len(source.dataset.splits.val)
    assert page.count("missed (false negative)") == 1
    assert np.isfinite(record["speedup"])

    before = {path.name: path.read_bytes() for path in file.folder.iterdir()}
    with pytest.raises(Refused, match=r"model_int8\.onnx is still the one of before"):
        run(force=False)
    assert {path.name: path.read_bytes() for path in file.folder.iterdir()} == before
