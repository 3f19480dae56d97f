"""Files that somebody made to harm: each is refused with one message."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.unit.deploy.ascend.small_models import METADATA, REQUEST, write_model
from unet_dist.deploy import comparison, untrusted
from unet_dist.deploy.ascend_commands import plan_conversion
from unet_dist.deploy.ascend_options import read_request
from unet_dist.deploy.ascend_source import read_source
from unet_dist.deploy.card_network import read_converted
from unet_dist.deploy.comparison import compare_forms
from unet_dist.deploy.conversion import write_conversion
from unet_dist.deploy.model_file import Metadata, ModelFile, _without_digest, metadata_of_onnx
from unet_dist.deploy.onnx_tensors import OnnxTensors
from unet_dist.deploy.runtime import open_network
from unet_dist.errors import UserError
from unet_dist.runs import read_json, write_json

READERS: dict[str, Callable[[Path], object]] = {
    "predict": metadata_of_onnx,
    "predict, the network": lambda path: open_network(path, METADATA, "onnxruntime", threads=1),
    "diff": OnnxTensors,
    "commands": lambda path: read_source(path, int8=False),
    "AMCT": lambda path: write_conversion(
        replace(
            REQUEST,
            int8=True,
            model=replace(REQUEST.model, path=path, is_quantised=True),
        ),
        path.parent / "ascend",
        will_run=False,
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_weights_outside_of_the_file_are_not_read(reader: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    (tmp_path / "secret").write_bytes(bytes(4 * 4 * 3 * 3 * 4))
    first = model.graph.initializer[0]
    first.ClearField("raw_data")
    first.data_location = TensorProto.EXTERNAL
    first.external_data.add(key="location", value="secret")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"keeps weights in other files \(secret\), which are not"):
        READERS[reader](path)


def test_weights_outside_are_found_in_attributes_of_functions(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    value = numpy_helper.from_array(np.zeros(1, np.float32))
    value.external_data.add(key="location", value="/etc/passwd")
    nodes = [helper.make_node("Constant", [], ["y"], value=value)]
    model.functions.append(helper.make_function("q", "F", [], ["y"], nodes, model.opset_import))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="/etc/passwd"):
        metadata_of_onnx(path)


def test_functions_that_grow_without_limit_are_not_written_out(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    for number in range(40):  # 2**40 nodes
        inner = helper.make_node(f"F{number - 1}", ["x"], ["z"], domain="q")
        nodes = [inner, helper.make_node(f"F{number - 1}", ["z"], ["y"], domain="q")]
        if number == 0:
            nodes = [helper.make_node("Relu", ["x"], ["y"])]
        function = helper.make_function("q", f"F{number}", ["x"], ["y"], nodes, model.opset_import)
        model.functions.append(function)
    model.graph.node.append(helper.make_node("F39", ["image"], ["w"], domain="q"))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="functions that call functions"):
        OnnxTensors(path)


def test_functions_are_not_called_from_graphs_inside_of_nodes_either(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    inner = helper.make_graph([helper.make_node("F1", [], ["z"], domain="q")], "g", [], [])
    nodes = [helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)]
    function = helper.make_function("q", "F0", ["x"], ["y"], nodes, model.opset_import)
    model.functions.append(function)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"graphs inside of nodes \(If\), which are not read"):
        metadata_of_onnx(path)


def test_what_is_too_large_or_no_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "model.onnx")
    with pytest.raises(UserError, match="is not a file"):
        metadata_of_onnx(Path("/dev/zero"))
    with pytest.raises(UserError, match="no such file"):
        metadata_of_onnx(tmp_path / "none.onnx")
    path.with_name("empty.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="has no input or no output"):
        metadata_of_onnx(path.with_name("empty.onnx"))
    own = tmp_path / "own.cfg"
    own.write_text("#" * 100_001)
    with pytest.raises(UserError, match=r"own\.cfg: is larger than 100,000 bytes"):
        read_request(
            path, soc="Ascend310P3", cann="8.0", shapes=[], precisions=[], int8=False,
            dynamic_batch="", dynamic_size="", aipp=False, aipp_config=own, input_type="",
            tool="atc",
        )  # fmt: skip
    monkeypatch.setattr(untrusted, "MOST_NODES", 7)
    with pytest.raises(UserError, match="has 8 nodes, more than 7"):
        metadata_of_onnx(path)
    monkeypatch.setattr(untrusted, "MOST_ONNX_BYTES", 100)
    with pytest.raises(UserError, match="is larger than 100 bytes"):
        metadata_of_onnx(path)


def test_a_graph_that_is_not_what_its_metadata_tell_is_refused(tmp_path: Path) -> None:
    """Either runtime would end in an error of its own, or compute something else."""
    path = write_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    model.graph.input[0].name = "x"
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError) as caught:
        metadata_of_onnx(path)
    assert caught.value.faults == (
        "its input is x [1, 3, any, any], but by its metadata it is image [any, 3, any, any]",
        "its output is probability [any, 3, any, any], but by its metadata it is probability "
        "[any, 1, any, any]",
    )


def test_a_float32_model_under_the_name_of_8_bits_is_told(tmp_path: Path) -> None:
    folder = ModelFile(tmp_path)
    write_model(folder.int8)
    with pytest.raises(UserError, match=r"model_int8\.onnx: is a model of float32"):
        folder.check_one_run()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"config": []}, r"config is \[\], no mapping"),
        ({"config": {"train": {"start_from": "/etc"}}}, "tells of train, but only of data"),
        ({"config": {"data": {"root": "/etc"}}}, r"tells data\.root of some machine"),
        ({"config": {"evaluate": {"tile": 10**6}}}, "tiles of 1000000 x 1000000"),
        ({"config": {"evaluate": {"batch": 10**6, "tile": 16}}}, "1000000 at once"),
        ({"config": {"evaluate": {"batch": 40_000}}}, "tiles of 256 x 256 pixels, 40000 at once"),
        ({"config": {"evaluate": {"tile": "65536"}}}, "tiles of 65536 x 65536"),
        ({"config": {"evaluate": {"tile": 65536.0}}}, "tiles of 65536 x 65536"),
        ({"numbering": {"structure": "objects"}}, "numbering is"),
        ({"threshold": "high"}, "threshold is 'high'"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"mean": [0, 0, float("nan")]}, "mean"),
        ({"std": [1, 1, float("inf")]}, "std"),
        ({"size_multiple": 0}, "size_multiple is 0"),
        ({"checkpoint_sha256": 5}, "checkpoint_sha256 is 5"),
        ({"class_names": 5}, "not understood"),
        ({"in_channels": [3]}, "not understood"),
    ],
)
def test_metadata_that_would_harm_later_are_refused(change: dict[str, Any], told: str) -> None:
    tree = {**METADATA.to_json(), **change}
    with pytest.raises(UserError, match=told):
        Metadata.of_json(tree, where="m")


def test_nested_json_in_an_onnx_file_is_refused(tmp_path: Path) -> None:
    props = {**METADATA.to_props(), "config": "[" * 200_000}
    with pytest.raises(UserError, match="which is not JSON"):
        Metadata.of_props(props, where="m")


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [10**9, 3, 16, 16]},
        {"shape": [1, 3, 16]},
        {"dynamic_batch": [1, 4096]},
        {"dynamic_sizes": [["a", "b"]]},
        {"input_type": "object"},
        {"aipp": "yes"},
        {"more": 1},
    ],
)
def test_a_description_that_no_conversion_wrote_is_refused(
    change: dict[str, Any], tmp_path: Path
) -> None:
    plan = plan_conversion(REQUEST, model="../model.onnx")
    file = tmp_path / plan.atc[0].makes
    description = file.with_name(f"{file.name}.json")
    description.write_text(plan.files[description.name])
    converted, metadata = read_converted(file)
    assert (converted.shape, metadata) == ((1, 3, 256, 256), METADATA)
    tree = read_json(description)
    write_json(description, {**tree, "converted": {**asdict(converted), **change}})
    with pytest.raises(UserError, match="is not understood"):
        read_converted(file)


def test_a_mindir_record_with_another_shape_is_told(tmp_path: Path) -> None:
    file = ModelFile(tmp_path)
    file.mindir.write_bytes(b"")
    write_json(file.metadata, METADATA.to_json())
    write_json(file.export_record(file.mindir), {"shape": [1, 3]})
    with pytest.raises(UserError, match=r"its shape is \[1, 3\], but must be 4 whole numbers"):
        read_source(file.mindir, int8=False)


def test_arrays_larger_than_their_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bomb, liar = (tmp_path / name for name in ("good.npy", "bomb.npz", "liar.npy"))
    np.save(good, np.zeros((1, 2, 2), np.float32))
    np.savez_compressed(bomb, one=np.zeros((1, 100, 100), np.float32))
    monkeypatch.setattr(comparison, "MOST_DUMP_BYTES", 40_000)
    with pytest.raises(UserError, match=r"bomb\.npz: .* are more than 40,000"):
        compare_forms(bomb, good, images=[], tolerance=0)
    # 10**12 numbers are told, 4 are there.
    told = good.read_bytes().replace(b"(1, 2, 2), }" + b" " * 11, b"(1000000000000,), }    ")
    assert told != good.read_bytes()
    liar.write_bytes(told)
    with pytest.raises(UserError, match=r"liar\.npy: holds no arrays"):
        compare_forms(liar, good, images=[], tolerance=0)


def test_texts_that_are_none_are_told_by_either_protobuf(tmp_path: Path) -> None:
    """MindSpore switches to the one that is written in Python."""
    path = write_model(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes().replace(b'"vessel"', b'"ves\xe3el"'))
    code = f"from unet_dist.deploy.model_file import metadata_of_onnx as m; m(Path({str(path)!r}))"
    for kind in ("upb", "python"):
        done = subprocess.run(
            [sys.executable, "-c", f"from pathlib import Path; {code}"],
            env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": kind},
            capture_output=True,
            text=True,
        )
        assert "UserError" in done.stderr.splitlines()[-1]
        assert "which is not JSON" in done.stderr or "is no ONNX model" in done.stderr


def test_a_single_bit_that_flipped_anywhere_is_noticed(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    content = path.read_bytes()
    bits = np.random.default_rng(0).choice(8 * len(content), 300, replace=False)
    for bit in bits.tolist():
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(UserError):
            metadata_of_onnx(path)
    weight = content.index(onnx.load_from_string(content).graph.initializer[0].raw_data)
    path.write_bytes(content[:weight] + bytes([content[weight] ^ 1]) + content[weight + 1 :])
    with pytest.raises(UserError, match=r"not as it was written: damaged.*unet-dist export"):
        metadata_of_onnx(path)
    path.write_bytes(_without_digest(onnx.load_from_string(content)).SerializeToString())
    with pytest.raises(UserError, match="has no digest of its content"):
        metadata_of_onnx(path)
