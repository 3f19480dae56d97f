"""What the gate catches, and what a folder holds after an export that failed."""

from pathlib import Path

import pytest

from tests.deployed import untrained_run
from unet_dist.deploy import onnx_graph
from unet_dist.deploy.export import export_onnx, onnx_bytes
from unet_dist.deploy.model_file import ModelFile
from unet_dist.deploy.parity import Refused
from unet_dist.deploy.runtime import DeployedNetwork, OnnxRuntimeSession
from unet_dist.deploy.source import Source, open_source


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
