"""A U-Net of one level as an ONNX file, and requests that break no rule."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from unet_dist.deploy.ascend_request import AscendRequest, SourceModel
from unet_dist.deploy.model_file import INPUT, Metadata, content_of

METADATA = Metadata(
    config_sha256="c" * 64,
    checkpoint_sha256="d" * 64,
    classes=2,
    class_names=("background", "vessel"),
    threshold=0.5,
    mean=(0.5, 0.25, 0.125),
    std=(0.2, 0.1, 0.25),
    in_channels=3,
    size_multiple=16,
    precision="float32",
    opset=15,
    config={"evaluate": {"tile": 64, "batch": 2}},
)
GREY = replace(METADATA, in_channels=1, mean=(0.5,), std=(0.2,))

SOURCE = SourceModel(
    path=Path("exported/model.onnx"), sha256="0123456789abcdef" * 4, metadata=METADATA, opset=15
)
REQUEST = AscendRequest(
    model=SOURCE, soc="Ascend310P3", cann="8.0", shapes=((1, 3, 256, 256),), tool="atc"
)


def weights(channels: int = 3) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    shapes = {
        "first": (4, channels, 3, 3),
        "deep": (4, 4, 3, 3),
        "up": (4, 4, 2, 2),
        "head": (1, 8, 1, 1),
    }
    return {
        name: rng.normal(scale=0.3, size=shape).astype(np.float32) for name, shape in shapes.items()
    }


def write_model(
    path: Path,
    metadata: Metadata = METADATA,
    *,
    values: dict[str, np.ndarray[Any, Any]] | None = None,
    prefix: str = "",
    quantised: bool = False,
) -> Path:
    """
    Args:
        prefix: of the names of inner tensors.
        quantised: puts QuantizeLinear and DequantizeLinear before the last convolution.
    """
    values = values or weights(metadata.in_channels)
    p = prefix
    nodes = [
        helper.make_node("Conv", [INPUT, "first"], [f"{p}a"], pads=[1] * 4),
        helper.make_node("Relu", [f"{p}a"], [f"{p}b"]),
        helper.make_node("MaxPool", [f"{p}b"], [f"{p}c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", [f"{p}c", "deep"], [f"{p}d"], pads=[1] * 4),
        helper.make_node("ConvTranspose", [f"{p}d", "up"], [f"{p}e"], strides=[2, 2]),
        helper.make_node("Concat", [f"{p}b", f"{p}e"], [f"{p}f"], axis=1),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    last = f"{p}f"
    if quantised:
        constants += [
            numpy_helper.from_array(np.array(0.05, np.float32), "scale"),
            numpy_helper.from_array(np.array(128, np.uint8), "zero"),
        ]
        nodes += [
            helper.make_node("QuantizeLinear", [last, "scale", "zero"], [f"{p}q"]),
            helper.make_node("DequantizeLinear", [f"{p}q", "scale", "zero"], [f"{p}dq"]),
        ]
        last = f"{p}dq"
    nodes += [
        helper.make_node("Conv", [last, "head"], [f"{p}g"]),
        helper.make_node("Sigmoid", [f"{p}g"], ["probability"]),
    ]
    sizes = ["batch", metadata.in_channels, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "unet",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, sizes)],
        [
            helper.make_tensor_value_info(
                "probability", TensorProto.FLOAT, ["batch", 1, "height", "width"]
            )
        ],
        constants,
    )
    opsets = [helper.make_opsetid("", metadata.opset)]
    model = helper.make_model(graph, ir_version=8, opset_imports=opsets)
    helper.set_model_props(model, metadata.to_props())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content_of(model))
    return path
