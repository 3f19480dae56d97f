"""Which layers stay in float32, and what is refused."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.deployed import untrained_run
from unet_dist.cli import app
from unet_dist.deploy.choice import Quantised, Validation, choose
from unet_dist.deploy.model_file import ModelFile, metadata_of_onnx
from unet_dist.deploy.parity import Refused
from unet_dist.deploy.ptq import Options, calibrate, evenly, fewest_float_layers, file_of
from unet_dist.deploy.qat import learned, qat_config, write_start
from unet_dist.deploy.quantize import quantise_run
from unet_dist.deploy.runtime import DeployedNetwork, OnnxRuntimeSession
from unet_dist.deploy.sizes import Sizes, check_size, described, size_bounds
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
    seconds=0.1,
    seconds_float32=0.3,
    layers=1,
    layout="plain",
    sizes=Sizes(float32=1000, written=250, plain=250, compact=240),
    calibrated_on=4,
    epochs=None,
    threshold=0.5,
    threshold_float32=0.5,
    training_images=4,
    validation=Validation(images=4, unit="image", units=4, views=1),
    agreement=None,
)


def test_each_limit_is_told_with_its_values() -> None:
    assert not GOOD.faults(Options())
    assert GOOD.to_json(Options())["speedup"] == pytest.approx(3)
    large = replace(GOOD.sizes, written=259, plain=259)
    bad = replace(GOOD, sizes=large, dice={"openvino": 0.794}, seconds=0.31, float_layers=("a",))
    faults = bad.faults(Options())
    assert len(faults) == 3
    assert "0.0060 lost, more than --max-drop 0.005, with 1 layer in float32" in faults[0]
    assert "25.9% of the float32 one (259 of 1,000 bytes)" in faults[1]
    assert faults[1].endswith("more than --max-size 0.258: --max-size 0.259 would do")
    assert "0.259 or --layout compact would do" in bad.faults(Options(layout="plain"))[1]
    assert "0.259 would do" in bad.faults(Options(layout="plain", max_size=0.2))[1]
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
    assert notes_of(GOOD.to_json(Options(method="qat", calibrate=16))) == []


def test_a_threshold_that_was_chosen_anew_is_told() -> None:
    anew = replace(GOOD, threshold=0.45, epochs=6)
    [note] = notes_of(anew.to_json(Options(method="qat", calibrate=4)))
    assert "chosen anew" in note
    assert "0.45, where the run has 0.5" in note


def test_a_file_of_functions_tells_what_reads_it_and_how_to_get_another() -> None:
    sizes = Sizes(float32=10_000, written=250, plain=2662, compact=250)
    compact = replace(GOOD, layout="compact", sizes=sizes)
    [note] = notes_of(compact.to_json(Options(calibrate=4)))
    # 2662 of 10000 is more than 0.258; rounded down to 0.266 it would be refused.
    assert "--layout plain --max-size 0.267: 2,662 bytes in place of 250, 26.6% of" in note
    assert "neither OpenVINO itself nor atc" in note
    smaller = replace(compact, sizes=replace(sizes, plain=2580))
    [note] = notes_of(smaller.to_json(Options(calibrate=4)))
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


@pytest.mark.parametrize("layout", ["plain", "compact"])
def test_the_size_is_known_before_a_training(
    source: Source, tmp_path: Path, layout: Literal["plain", "compact"]
) -> None:
    options = Options(method="qat", layout=layout, calibrate=2)
    least, most = size_bounds(source, options)
    # What a training of no steps would leave.
    start = tmp_path / "start.safetensors"
    write_start(source, start, images=2)
    config = qat_config(source.config, start, 3)
    made = learned(replace(source, config=config, weights=load_file(start)), start_images=2)
    origin = source.metadata.checkpoint_sha256
    metadata = replace(made.metadata, derived_from_sha256=origin)
    model = described(made.quantised([]), metadata)
    written = len(file_of(model, layout, largest=0))
    found = Sizes.of(model, float32=least.float32, written=written)
    assert least.written <= found.written <= most.written < 1.1 * least.written
    assert (made.images, made.epochs) == (2, 3)

    check_size(source, replace(options, max_size=1))
    with pytest.raises(Refused, match="refused before its training") as refused:
        check_size(source, replace(options, max_size=0.2))
    [told] = re.findall(r"--max-size (\S+) would do", str(refused.value))
    assert found.written <= float(told) * found.float32
    check_size(source, replace(options, max_size=float(told)))


def test_a_training_for_a_file_that_is_too_large_is_not_begun(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["quantize", str(source.run.path), "--method", "qat", "--simulate", "1"]
    asked += ["--max-size", "0.2", "--json", "-o", str(tmp_path / "deployed")]
    assert app(asked, standalone_mode=False) == 1
    answered = json.loads(capsys.readouterr().out)
    assert answered["state"] == "failed"
    assert "above --max-size 0.2; --max-size 0." in answered["reason"]
    assert not (tmp_path / "deployed" / "qat").exists()


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
    assert f"run run, weights {source.metadata.checkpoint_sha256[:16]}" in page
    assert "method ptq" in page
    assert "threshold 0.4" in page
    assert (record["run"], record["ranges"]) == (str(source.run.path.resolve()), "calibrated")
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
