"""Exported models compute what MindSpore does; those that do not leave no file."""

from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import onnxruntime
import pytest

from tests.deployed import metadata_for, random_weights, untrained_run
from unet_dist.config import ModelConfig
from unet_dist.deploy import onnx_graph
from unet_dist.deploy.compact import shorten
from unet_dist.deploy.export import export_mindir, export_onnx
from unet_dist.deploy.model_file import ModelFile, metadata_of_onnx
from unet_dist.deploy.native import native_network
from unet_dist.deploy.onnx_graph import build_model
from unet_dist.deploy.parity import Refused
from unet_dist.deploy.source import Source, open_source
from unet_dist.errors import UserError
from unet_dist.evaluate.forward import Member
from unet_dist.model.unet import build_unet, probabilities, put


@pytest.fixture
def _eager() -> Iterator[None]:
    """Operator by operator: no graph is compiled for each of the sizes."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.mark.usefixtures("_eager")
@pytest.mark.parametrize(
    ("settings", "in_channels", "classes", "opset", "shape"),
    [
        ({"norm": "batch"}, 1, 2, 13, (1, 17, 23)),
        ({"norm": "sync_batch", "upsample": "resize", "stride": 2}, 3, 2, 17, (2, 31, 18)),
        ({"norm": "group", "passes": 2, "stride": 4, "width": 5}, 3, 2, 15, (3, 33, 21)),
        ({"norm": "batch", "attention": "gate", "width": 3}, 1, 2, 13, (1, 17, 23)),
        ({"norm": "group", "attention": "gate", "passes": 2, "width": 5}, 1, 2, 17, (1, 9, 14)),
        ({"norm": "instance", "passes": 2, "upsample": "resize"}, 1, 4, 13, (4, 16, 11)),
    ],
)
def test_the_graph_computes_what_mindspore_does(
    settings: dict[str, object],
    in_channels: int,
    classes: int,
    opset: int,
    shape: tuple[int, int, int],
) -> None:
    model = ModelConfig.model_validate({"width": 4, "depth": 2, **settings})
    outputs = 1 if classes == 2 else classes
    weights = random_weights(model, in_channels=in_channels, outputs=outputs)
    net = build_unet(model, in_channels=in_channels, classes=classes, seed=0)
    net.set_train(False)
    parameters = net.parameters_dict()
    assert {name: one.shape for name, one in parameters.items()} == {
        name: array.shape for name, array in weights.items()
    }
    for name, parameter in parameters.items():
        put(parameter, weights[name])
    metadata = metadata_for(model, in_channels=in_channels, classes=classes, opset=opset)
    graph = shorten(build_model(weights, model, metadata))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    batch, height, width = shape
    image = np.random.default_rng(1).normal(size=(batch, in_channels, height, width))
    image = image.astype(np.float32)

    (found,) = session.run(None, {"image": image})

    keep = ms.Tensor(np.ones((batch, net.deepest_channels), np.float32))
    expected = probabilities(net(ms.Tensor(image), keep)).asnumpy()
    assert expected.std() > 0.05  # so that equality says something
    np.testing.assert_allclose(found, expected, atol=1e-5)


def as_kernel_of_three(auto_pad: str):  # type: ignore[no-untyped-def]
    """A transposed convolution of kernel 2 as one of kernel 3 with an empty row and column, the
    output cut to twice the size on the side that ``auto_pad`` says."""

    def transposed(graph: onnx_graph._Graph, x: str, name: str, factor: int) -> str:
        weight = np.pad(graph.weights[f"{name}.weight"], [(0, 0), (0, 0), (0, 1), (0, 1)])
        inputs = [x, graph.constant(f"{name}.weight", weight)]
        inputs.append(graph.constant(f"{name}.bias", graph.weights[f"{name}.bias"]))
        return graph.add("ConvTranspose", inputs, name, strides=[2, 2], auto_pad=auto_pad)

    return transposed


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Member]:
    run, _ = untrained_run(tmp_path_factory.mktemp("exported"), "model.attention=gate")
    source = open_source(run, opset=17)
    return source, native_network(source)


def test_a_padding_on_the_wrong_side_leaves_no_file(
    tmp_path: Path, exported: tuple[Source, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, native = exported
    file, right = ModelFile(tmp_path / "deployed"), ModelFile(tmp_path / "right")

    monkeypatch.setattr(onnx_graph, "_transposed", as_kernel_of_three("SAME_UPPER"))
    export_onnx(source, right.folder, native, random=False)
    assert metadata_of_onnx(right.onnx) == source.metadata

    # As MindSpore's exporter writes it: a valid file that is wrong by one pixel.
    monkeypatch.setattr(onnx_graph, "_transposed", as_kernel_of_three("SAME_LOWER"))
    with pytest.raises(Refused, match="differ by up to"):
        export_onnx(source, file.folder, native, random=False)
    assert not file.onnx.exists()


def test_a_gate_that_lets_all_through_leaves_no_file(
    tmp_path: Path, exported: tuple[Source, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "_gated", lambda graph, skip, *others: skip)
    file = ModelFile(tmp_path / "deployed")
    with pytest.raises(Refused, match="differ by up to"):
        export_onnx(exported[0], file.folder, exported[1], random=False)
    assert not file.onnx.exists()


def test_a_mindir_file_predicts_and_keeps_its_folder_open(
    tmp_path: Path, exported: tuple[Source, Member]
) -> None:
    source, native = exported
    file = ModelFile(tmp_path / "deployed")

    record = export_mindir(source, file.folder, native)

    assert record["parity"]["largest"] <= 1e-6
    assert file.mindir.stat().st_mode & 0o777 == 0o644
    assert file.folder.stat().st_mode & 0o777 == 0o755
    assert file.load_metadata() == source.metadata
    other = source.with_options(opset=17, normalises=True, has_mask=False, output="probability")
    with pytest.raises(UserError, match="other weights or options"):
        export_onnx(other, file.folder, native, random=False)
