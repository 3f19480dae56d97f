"""What the gate catches, and what a folder holds after an export that failed."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.deployed import untrained_run
from tests.unit.deploy.ascend.small_models import METADATA, write_model
from unet_dist.cli import app
from unet_dist.deploy import onnx_graph
from unet_dist.deploy.ascend_source import read_source
from unet_dist.deploy.comparison import compare_forms
from unet_dist.deploy.export import export_onnx, onnx_bytes
from unet_dist.deploy.model_file import ModelFile
from unet_dist.deploy.parity import Refused
from unet_dist.deploy.runtime import DeployedNetwork, OnnxRuntimeSession
from unet_dist.deploy.source import Source, open_source
from unet_dist.errors import UserError
from unet_dist.runs import RunDir, read_json, write_json


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    run, _ = untrained_run(tmp_path_factory.mktemp("exported"))
    return open_source(run, opset=17)


@pytest.fixture(scope="module")
def native(source: Source) -> DeployedNetwork:
    """In the place of MindSpore, which tests/ms compares it with."""
    return DeployedNetwork(OnnxRuntimeSession(onnx_bytes(source), threads=1), source.metadata)


def padded_by(mode: str, first: int):  # type: ignore[no-untyped-def]
    """``_padded`` with another mode, or with what is missing before the image (first is 1)."""

    def padded(graph: onnx_graph._Graph, x: str, size: str, multiple: int, prefix: str) -> str:
        modulus, less = graph.integers("m", multiple), graph.integers("m-1", multiple - 1)
        missing = graph.add("Mod", [graph.add("Mul", [size, less], "negative"), modulus], "missing")
        none, two = graph.integers("0_0", 0, 0), graph.integers("0x4", 0, 0, 0, 0)
        parts = [none, missing, two] if first else [two, none, missing]
        return graph.add("Pad", [x, graph.add("Concat", parts, "pads", axis=0)], "p", mode=mode)

    return padded


@pytest.mark.parametrize(("mode", "first"), [("edge", 0), ("edge", 1), ("constant", 0)])
def test_a_fault_in_the_padding_of_odd_sizes_leaves_no_file(
    mode: str,
    first: int,
    source: Source,
    native: DeployedNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tiles of the validation images, 32 x 32, need no padding."""
    file = ModelFile(tmp_path)
    monkeypatch.setattr(onnx_graph, "_padded", padded_by(mode, first))
    if (mode, first) == ("edge", 0):
        assert export_onnx(source, tmp_path, native, random=False)["parity"]["random_images"] == 4
        assert file.onnx.exists()
        return
    with pytest.raises(Refused, match="differ by up to"):
        export_onnx(source, tmp_path, native, random=False)
    assert not file.onnx.exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def other_weights(source: Source) -> Source:
    return replace(source, metadata=replace(source.metadata, checkpoint_sha256="e" * 64))


def test_a_refused_export_leaves_the_folder_as_it_was(
    source: Source, native: DeployedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_onnx(source, tmp_path, native, random=False)
    before = contents(tmp_path)
    assert set(before) == {"model.onnx", "model.json", "onnx_export.json"}
    monkeypatch.setattr(onnx_graph, "_padded", padded_by("constant", 0))
    with pytest.raises(Refused, match=r"model\.onnx is still the one of before"):
        export_onnx(other_weights(source), tmp_path, native, random=False)
    assert contents(tmp_path) == before


def test_models_of_two_runs_are_not_put_into_one_folder(
    source: Source, native: DeployedNetwork, tmp_path: Path
) -> None:
    file = ModelFile(tmp_path)
    export_onnx(source, tmp_path, native, random=False)
    small = replace(source.metadata, precision="int8", derived_from_sha256="", config={})
    write_model(file.int8, small, quantised=True)
    file.check_one_run()
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"its model_int8\.onnx has other weights: choose"):
        export_onnx(other_weights(source), tmp_path, native, random=False)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", ["bench", "commands", "commands of mindir"])
def test_a_folder_of_two_runs_is_told(
    command: str, source: Source, native: DeployedNetwork, tmp_path: Path
) -> None:
    file = ModelFile(tmp_path)
    export_onnx(source, tmp_path, native, random=False)
    arguments = ["deploy", "bench", str(tmp_path), "--threads", "1"]
    told = f"model.onnx {source.metadata.checkpoint_sha256[:12]}, "
    if command == "commands of mindir":
        file.onnx.rename(file.mindir)
        record = read_json(file.export_record(file.onnx))
        write_json(file.export_record(file.mindir), {**record, "checkpoint_sha256": "e" * 64})
        arguments = ["deploy", "commands", str(file.mindir), "--soc", "Ascend310P3"]
        told = "model.mindir eeeeeeeeeeee"
    else:
        other = replace(source.metadata, derived_from_sha256="e" * 64, precision="int8")
        write_model(file.int8, other, quantised=True)
        if command == "commands":
            arguments = ["deploy", "commands", str(tmp_path), "--soc", "Ascend310P3"]
    with pytest.raises(UserError) as caught:
        app(arguments, standalone_mode=False)
    assert f"{tmp_path}: its files are of different weights (" in str(caught.value)
    assert told in str(caught.value)
    assert "into a folder of its own" in str(caught.value)


def test_two_networks_are_not_compared_as_forms_of_one(tmp_path: Path) -> None:
    a = write_model(tmp_path / "a.onnx")
    b = write_model(tmp_path / "b.onnx", replace(METADATA, checkpoint_sha256="e" * 64))
    with pytest.raises(
        UserError, match=r"different weights \(.*a\.onnx dddddddddddd, .*b\.onnx ee"
    ):
        compare_forms(a, b, images=[tmp_path], tolerance=1e-3)


def test_a_mindir_file_that_was_exchanged_is_told(tmp_path: Path) -> None:
    file = ModelFile(tmp_path)
    file.mindir.write_bytes(b"another")
    write_json(file.metadata, METADATA.to_json())
    # SHA-256 of nothing.
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    write_json(file.export_record(file.mindir), {"sha256": empty, "shape": [2, 3, 64, 64]})
    with pytest.raises(UserError, match=r"is not the file that mindir_export\.json tells of"):
        read_source(file.mindir, int8=False)
    file.mindir.write_bytes(b"")
    assert read_source(file.mindir, int8=False).fixed_shape == (2, 3, 64, 64)


@pytest.mark.parametrize("command", [["export", "--to", "onnx"], ["quantize"]])
def test_what_cannot_end_well_is_told_before_mindspore_starts(
    command: list[str], source: Source, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="file/deployed: cannot be written: Not a directory"):
        app([*command, str(source.run.path), "-o", f"{file}/deployed"], standalone_mode=False)
    with pytest.raises(UserError, match="none: not a run folder"):
        app([*command, f"{tmp_path}/none", "-o", str(tmp_path)], standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_weights_of_a_run_that_is_not_done_are_warned_of(source: Source, tmp_path: Path) -> None:
    run = RunDir(shutil.copytree(source.run.path, tmp_path / "run"))
    write_json(run.status, {"state": "running"})
    [warning] = open_source(run, opset=17).warnings
    assert warning == "the run is running, not done: its best weights so far are of step 1"
