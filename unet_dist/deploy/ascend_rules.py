"""What the documents forbid, checked before any converter starts; all of it is told at once.

Each function names its document. "ATC" pages are those of CANN 8.0 ("devaids/atc") and of
CommunityEdition 9.1 ("devaids/atctool"), under one number.
"""

from collections.abc import Sequence

from unet_dist.deploy.aipp import CHANNELS, aipp_faults
from unet_dist.deploy.ascend_cards import (
    BF16_FAMILIES,
    CANN,
    CARDS,
    LITE_CARDS,
    LITE_FAMILIES,
    card_faults,
)
from unet_dist.deploy.ascend_request import AscendRequest, Shape
from unet_dist.errors import counted

PRECISION_V2 = ("fp16", "origin", "cube_fp16in_fp32out", "mixed_float16", "mixed_bfloat16")
"""``--precision_mode_v2`` (atlasatcparam_16_0069)."""
PRECISION_V1 = (
    "force_fp16",
    "allow_fp32_to_fp16",
    "must_keep_origin_dtype",
    "allow_mix_precision",
    "allow_mix_precision_fp16",
    "allow_mix_precision_bf16",
    "force_fp32",
)
"""``--precision_mode`` (atlasatcparam_16_0067), the older option."""
HIGH_PRECISION = ("force_fp32", "must_keep_origin_dtype", "origin", "cube_fp16in_fp32out")
"""Not for quantised models (atlasatc_16_0038); cube_fp16in_fp32out is the same as force_fp32
(atlasatcparam_16_0067)."""
BF16 = ("mixed_bfloat16", "allow_mix_precision_bf16")
MOST_PROFILES = 100
LARGEST_BATCH = 2048


def violations(request: AscendRequest) -> list[str]:
    """Every rule that a request breaks, with what to do instead."""
    faults = card_faults(request.soc, request.cann)
    if request.tool != "lite":
        faults += _source_faults(request)
    for shape in request.shapes:
        faults += _shape_faults(request, shape)
        fixed = request.model.fixed_shape
        if fixed is not None and shape != fixed:
            faults.append(
                f"--shape {_text(shape)}: the MindIR file is for {_text(fixed)} alone: leave "
                "--shape away, or take model.onnx"
            )
    return [
        *faults,
        *_profile_faults(request),
        *_precision_faults(request),
        *_int8_faults(request),
        *_aipp_faults(request),
        *lite_faults(request, demanded=request.tool in ("lite", "both")),
    ]


def _source_faults(request: AscendRequest) -> list[str]:
    """``--framework`` (atlasatcparam_16_0014): 1 takes *.air only, 5 ONNX of certain opsets.
    "General Restrictions" (atlasatc_16_0038): inputs are FP32 or FP16, UINT8 by AIPP alone."""
    model = request.model
    if model.kind == ".mindir":
        return [
            "atc reads no MindIR (its --framework=1 takes .air files alone): give it the ONNX "
            "file of unet-dist export RUN --to onnx, or convert by MindSpore Lite: --tool lite"
        ]
    if model.kind != ".onnx":
        return [f"{model.kind or 'the file'} is not converted: export ONNX, unet-dist export RUN"]
    faults = []
    cann = CANN.get(request.cann)
    if cann is not None and not cann.first_opset <= model.opset <= cann.last_opset:
        faults.append(
            f"opset {model.opset}: CANN {request.cann} reads {cann.first_opset} to "
            f"{cann.last_opset}: unet-dist export RUN --to onnx --opset "
            f"{min(cann.last_opset, max(cann.first_opset, model.opset))}, or a newer --cann"
        )
    if model.input_type not in ("float32", "float16"):
        faults.append(
            f"the graph's input is {model.input_type}, but atc takes ONNX inputs of float32 and "
            "float16: export with a float input and let AIPP take uint8 (--aipp)"
        )
    return faults


def _shape_faults(request: AscendRequest, shape: Shape) -> list[str]:
    """``--dynamic_batch_size`` (atlasatcparam_16_0018) and ``--dynamic_image_size``
    (atlasatcparam_16_0019): -1 stands where the profiles are, and nowhere else."""
    metadata, text = request.model.metadata, f"--shape {_text(shape)}"
    batch, channels, *sides = shape
    faults = []
    if channels != metadata.in_channels:
        faults.append(
            f"{text}: {counted(channels, 'channel')}, but the model has {metadata.in_channels}"
        )
    if (batch == -1) != bool(request.dynamic_batch):
        faults.append(
            f"{text}: --dynamic-batch gives the batches, so write -1 in front"
            if request.dynamic_batch
            else f"{text}: the batch is -1, but there is no --dynamic-batch 1,2,4"
        )
    if (sides == [-1, -1]) != bool(request.dynamic_sizes) or sides.count(-1) == 1:
        faults.append(
            f"{text}: --dynamic-size gives the sizes, so write -1,-1 at the end"
            if request.dynamic_sizes
            else f"{text}: a size is -1, but there is no --dynamic-size 256,256;512,512"
        )
    for side in dict.fromkeys(sides):
        faults += _multiple_faults(text, side, metadata.size_multiple)
    return faults


def _text(shape: Shape) -> str:
    return ",".join(map(str, shape))


def _multiple_faults(text: str, side: int, multiple: int) -> list[str]:
    if side == -1 or side % multiple == 0:
        return []
    lower, upper = side // multiple * multiple, -(-side // multiple) * multiple
    advice = f"{lower} or {upper}" if lower else str(upper)
    return [
        f"{text}: {side} is no multiple of {multiple}, so the graph would pad and crop inside, "
        f"for every image: take {advice}; tiles overlap anyway"
    ]


def _profile_faults(request: AscendRequest) -> list[str]:
    """``--dynamic_batch_size`` and ``--dynamic_image_size``: 2 to 100 profiles, batches of 1 to
    2048, and "mutually exclusive" (atlasatcparam_16_0018, _0019)."""
    faults = []
    if request.dynamic_batch and request.dynamic_sizes:
        faults.append(
            "--dynamic-batch and --dynamic-size exclude each other: make one .om for each "
            "batch with --dynamic-size, or for each size with --dynamic-batch"
        )
    named: tuple[tuple[str, Sequence[object]], ...] = (
        ("--dynamic-batch", request.dynamic_batch),
        ("--dynamic-size", request.dynamic_sizes),
    )
    for option, profiles in named:
        if profiles and not 2 <= len(profiles) <= MOST_PROFILES:
            faults.append(
                f"{option} has {len(profiles)} profiles: atc takes 2 to {MOST_PROFILES}; a "
                "single one belongs into --shape"
            )
        if len(set(profiles)) != len(profiles):
            faults.append(f"{option} names a profile twice")
    if bad := [n for n in request.dynamic_batch if not 1 <= n <= LARGEST_BATCH]:
        faults.append(f"--dynamic-batch {bad[0]}: batches are 1 to {LARGEST_BATCH}")
    for size in request.dynamic_sizes:
        for side in dict.fromkeys(size):
            text = f"--dynamic-size {size[0]},{size[1]}"
            faults += _multiple_faults(text, side, request.model.metadata.size_multiple)
    return faults


def _precision_faults(request: AscendRequest) -> list[str]:
    """``--precision_mode_v2`` (atlasatcparam_16_0069): not together with ``--precision_mode``;
    bfloat16 is not of every card (BF16_FAMILIES)."""
    faults = [
        f"--precision {name!r} is none: {', '.join(PRECISION_V2)}; or of the older option "
        f"{', '.join(PRECISION_V1)}"
        for name in request.precisions
        if name not in PRECISION_V1 + PRECISION_V2
    ]
    older = [name for name in request.precisions if name in PRECISION_V1]
    newer = [name for name in request.precisions if name in PRECISION_V2]
    if older and newer:
        faults.append(
            f"--precision {older[0]} is of --precision_mode, {newer[0]} of --precision_mode_v2, "
            f"which exclude each other: keep {newer[0]}, the vendor advises the newer option"
        )
    elif len(request.precisions) > 1 and not faults:
        faults.append(f"--precision is given {len(request.precisions)} times: one mode holds")
    family = CARDS.get(request.soc)
    for name in set(request.precisions).intersection(BF16):
        if family is not None and family not in BF16_FAMILIES:
            faults.append(
                f"--precision {name}: {request.soc} computes no bfloat16, the cards from "
                "Ascend910B1 on do: take mixed_float16"
            )
    return faults


def _int8_faults(request: AscendRequest) -> list[str]:
    """ "General Restrictions" (atlasatc_16_0038): no dynamic shape options with a quantised model
    ("otherwise, the model conversion fails"), and no high precision modes."""
    model = request.model
    if model.kind == ".onnx" and request.int8 != model.is_quantised:
        return [
            "--int8: the graph holds no QuantizeLinear: unet-dist quantize RUN first"
            if request.int8
            else "the graph is quantised (QuantizeLinear), which atc reads only after AMCT: "
            "add --int8, or take the float32 model.onnx"
        ]
    if not request.int8:
        return []
    faults = [f"--int8: AMCT does not adapt it: {fault}" for fault in model.amct_faults]
    for option, profiles in (
        ("--dynamic-batch", request.dynamic_batch),
        ("--dynamic-size", request.dynamic_sizes),
    ):
        if profiles:
            faults.append(
                f"--int8 with {option}: atc takes no dynamic shapes of quantised models: give a "
                "--shape for each instead, one .om will be made of each"
            )
    faults += [
        f"--int8 with --precision {name}: in high precision modes nothing of the quantisation is "
        "gained: take fp16 or mixed_float16"
        for name in request.precisions
        if name in HIGH_PRECISION
    ]
    return faults


def _aipp_faults(request: AscendRequest) -> list[str]:
    """ "Configuration File Template" (atlasatc_16_0025): "Only RAW and UINT8 input images are
    supported". "Static AIPP" (atctool_0020) for sizes."""
    metadata = request.model.metadata
    if not request.aipp:
        if request.input_type == "uint8":
            return ["--input uint8: only AIPP takes it: add --aipp"]
        return []
    faults = []
    if request.input_type != "uint8":
        faults.append(
            f"--aipp with --input {request.input_type}: AIPP takes uint8 images: leave --input "
            "away, or --aipp, and the host normalises"
        )
    if metadata.in_channels not in CHANNELS.values():
        faults.append(f"--aipp: it makes 1 or 3 channels, the model has {metadata.in_channels}")
        return faults
    if metadata.config.get("data", {}).get("even_light"):
        faults.append(
            "--aipp: the model wants images whose light was evened (data.even_light), which are "
            "no whole grey levels, and AIPP cannot even it: leave --aipp away"
        )
    if request.own_aipp is not None:
        for shape in request.shapes:
            faults += [
                f"--aipp-config for --shape {_text(shape)}: {fault}"
                for fault in aipp_faults(
                    request.own_aipp,
                    in_channels=metadata.in_channels,
                    height=shape[2],
                    width=shape[3],
                )
            ]
    return faults


def lite_faults(request: AscendRequest, *, demanded: bool) -> list[str]:
    """Why MindSpore Lite converts nothing here; none if it need not. "Downloading MindSpore Lite"
    (2.10) names its cards, "Ascend Conversion Tool Description" (2.10) its options: no way from
    AMCT's operators into it is told of there."""
    if not demanded:
        return []
    faults = []
    family = CARDS.get(request.soc)
    if family is not None and family not in LITE_FAMILIES:
        faults.append(
            f"MindSpore Lite 2.10 does not support {request.soc}, but {LITE_CARDS}: take "
            "--tool atc, and the .om by pyACL"
        )
    if request.model.kind not in (".onnx", ".mindir"):
        faults.append(f"converter_lite reads no {request.model.kind}: give it ONNX or MindIR")
    if request.int8:
        faults.append(
            "--int8 by MindSpore Lite: its documents tell of no way for AMCT's models: take "
            "--tool atc"
        )
    return faults
