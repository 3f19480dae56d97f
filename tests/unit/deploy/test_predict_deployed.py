"""Image files through a deployed model: the files of ``unet-dist predict``, without MindSpore."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from tests.deployed import metadata_for, random_weights
from unet_dist.cli import app
from unet_dist.config import ModelConfig
from unet_dist.deploy.compact import shorten
from unet_dist.deploy.model_file import content_of, metadata_of_onnx
from unet_dist.deploy.onnx_graph import build_model
from unet_dist.deploy.predict import DeployedModel, list_inputs, predict_deployed
from unet_dist.deploy.runtime import open_network
from unet_dist.errors import UserError
from unet_dist.evaluate.structure import DIVISION

MODEL = ModelConfig(width=4, depth=1, norm="batch")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx", MODEL)


def write_model(path: Path, model: ModelConfig) -> Path:
    metadata = replace(
        metadata_for(model),
        config={
            "data": {"channels": "grey"},
            "model": {"width": 4, "depth": 1, "norm": model.norm},
            "evaluate": {"tile": 32, "batch": 1},
        },
    )
    weights = random_weights(model, in_channels=1, outputs=1)
    path.write_bytes(content_of(shorten(build_model(weights, model, metadata))))
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one tile, so that nothing is blended."""
    path = tmp_path_factory.mktemp("image") / "one.png"
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def predict(*arguments: object) -> "subprocess.CompletedProcess[str]":
    code = "import sys; from unet_dist.cli import main\ntry: main()\n"
    code += "finally: print([m for m in ('mindspore', 'mpi4py') if m in sys.modules])"
    command = [sys.executable, "-c", code, "predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_files_hold_what_the_model_says(model: Path, image: Path, tmp_path: Path) -> None:
    done = predict(model, image, "--out", tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"  # neither MindSpore nor MPI
    grey = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE)[None, None]
    x = (grey.astype(np.float32) / 255 - 0.5) / 0.25  # the metadata's mean and deviation
    session = onnxruntime.InferenceSession(model)
    expected = session.run(None, {"image": x.astype(np.float32)})[0][0, 0]
    probability = cv2.imread(str(tmp_path / "one_probability.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(probability / 65535, expected, atol=1e-5)
    mask = cv2.imread(str(tmp_path / "one_mask.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, 255 * (expected >= 0.5))


def test_a_tile_is_at_most_as_large_as_its_image(model: Path, image: Path, tmp_path: Path) -> None:
    wide = image.with_name("wide.png")
    pixels = np.random.default_rng(1).integers(0, 256, (40, 72), np.uint8)
    assert cv2.imwrite(str(wide), pixels)
    found = []
    for tile, files in ((72, [wide]), (32, [image]), (500_000, [wide, image])):
        opened = DeployedModel.open(model, runtime="onnxruntime", tta="", tile=tile)
        out = tmp_path / str(tile)
        done = predict_deployed(
            opened,
            list_inputs(opened, files, None),
            out,
            uncertainty="none",
            force=False,
            on_image=lambda done, total: None,
        )
        assert done["faults"] == []
        found.append({path.name: path.read_bytes() for path in out.glob("*_probability.png")})
    assert found[2] == {**found[0], **found[1]}


def probabilities(model: DeployedModel, image: Path, out: Path) -> bytes:
    done = predict_deployed(
        model,
        list_inputs(model, [image], None),
        out,
        uncertainty="none",
        force=True,
        on_image=lambda done, total: None,
    )
    assert done["faults"] == []
    return (out / f"{image.stem}_probability.png").read_bytes()


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_norms_that_depend_on_the_tile_have_the_tiles_of_the_run(tmp_path: Path, norm: str) -> None:
    file = write_model(tmp_path / "model.onnx", ModelConfig(width=4, depth=1, norm=norm))
    small = tmp_path / "small.png"  # than the tile of 32: the run pads it
    pixels = np.random.default_rng(2).integers(0, 256, (20, 24), np.uint8)
    assert cv2.imwrite(str(small), pixels)
    found = [
        probabilities(
            DeployedModel.open(file, runtime="onnxruntime", tta="", tile=tile), small, out
        )
        for tile, out in ((0, tmp_path / "run"), (32, tmp_path / "same"))
    ]
    assert found[0] == found[1]
    with pytest.raises(UserError, match=rf"--tile: is 24, but model\.norm {norm} .*tile 32"):
        DeployedModel.open(file, runtime="onnxruntime", tta="", tile=24)


def test_a_threshold_for_another_way_of_telling_objects_apart_is_refused(
    model: Path, image: Path, tmp_path: Path
) -> None:
    opened = DeployedModel.open(model, runtime="onnxruntime", tta="", tile=0)
    numbering = {"structure": "objects", "threshold": 0.5, "min_object": 0, "cell_smoothing": 0}
    older = {**numbering, "division": DIVISION - 1}
    opened = replace(opened, metadata=replace(opened.metadata, numbering=older))
    with pytest.raises(UserError, match="export it again"):
        probabilities(opened, image, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_for_a_model_file_is_told(model: Path, image: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.onnx"
    foreign.write_bytes(b"\x00\x01 no model")
    for content in (foreign.read_bytes(), model.read_bytes()[:-100]):
        foreign.write_bytes(content)
        with pytest.raises(UserError, match="is no ONNX model, or cut off"):
            metadata_of_onnx(foreign)
    unknown = onnx.load(model)
    unknown.graph.node[0].op_type = "Unknown"
    foreign.write_bytes(unknown.SerializeToString())
    with pytest.raises(UserError, match="onnxruntime refuses it"):
        open_network(foreign, metadata_for(MODEL), "onnxruntime")
    arguments = ["predict", model, image, "--out", tmp_path, "--simulate", 2]
    with pytest.raises(UserError, match="leave out the ranks' options"):
        app(list(map(str, arguments)), standalone_mode=False)
