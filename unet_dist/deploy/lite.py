"""MindSpore Lite's converter: its configuration file and its command.

Documents of MindSpore Lite 2.10: "Ascend Conversion Tool Description"
(mindir/converter_tool_ascend) for ``[ascend_context]``, "Offline
Conversion of Inference Models" (mindir/converter_tool) for the command. A fixed shape stands in the
command, a free one in the file.
"""

from unet_dist.deploy.ascend_request import AscendRequest, Shape
from unet_dist.deploy.model_file import INPUT

PRECISIONS = {
    "fp16": "enforce_fp16",
    "force_fp16": "enforce_fp16",
    "origin": "enforce_origin",
    "must_keep_origin_dtype": "enforce_origin",
    "cube_fp16in_fp32out": "enforce_fp32",
    "force_fp32": "enforce_fp32",
    "allow_fp32_to_fp16": "preferred_fp32",
    "mixed_float16": "preferred_optimal",
    "mixed_bfloat16": "preferred_optimal",
    "allow_mix_precision": "preferred_optimal",
    "allow_mix_precision_fp16": "preferred_optimal",
    "allow_mix_precision_bf16": "preferred_optimal",
}
"""By ATC's names; Lite's default is enforce_fp16, whatever the model's type."""
FRAMEWORKS = {".onnx": "ONNX", ".mindir": "MINDIR"}


def lite_ini(request: AscendRequest, shape: Shape, *, aipp: str) -> str:
    """
    Args:
        aipp: name of the AIPP file, empty if there is none.
    """
    precision = request.precisions[0] if request.precisions else "fp16"
    lines = ["[ascend_context]", "input_format=NCHW", f"precision_mode={PRECISIONS[precision]}"]
    profiles = [f"[{batch}]" for batch in request.dynamic_batch]
    profiles += [f"[{height},{width}]" for height, width in request.dynamic_sizes]
    if profiles:
        lines.append(f"input_shape={INPUT}:[{','.join(map(str, shape))}]")
        lines.append(f"dynamic_dims={','.join(profiles)}")
    if aipp:
        lines.append(f"insert_op_config_file_path={aipp}")
    return "\n".join(lines) + "\n"


def lite_argv(
    request: AscendRequest, shape: Shape, *, model: str, output: str, ini: str
) -> tuple[str, ...]:
    argv = [
        "converter_lite",
        f"--fmk={FRAMEWORKS[request.model.kind]}",
        f"--modelFile={model}",
        f"--outputFile={output}",
        "--saveType=MINDIR",
        "--optimize=ascend_oriented",
    ]
    # A MindIR file has one shape, and names its input itself.
    if -1 not in shape and request.model.kind == ".onnx":
        argv.append(f"--inputShape={INPUT}:{','.join(map(str, shape))}")
    return (*argv, f"--configFile={ini}")
