"""Every rule of the documents has a request that breaks it and nothing else."""

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.deploy.ascend.small_models import GREY, METADATA, REQUEST, SOURCE
from unet_dist.cli.deploy import commands
from unet_dist.cli.export import export
from unet_dist.cli.quantize import quantize
from unet_dist.deploy.aipp import aipp_for, parse_aipp
from unet_dist.deploy.ascend_rules import violations

INT8 = replace(SOURCE, is_quantised=True)
MINDIR = replace(SOURCE, path=Path("exported/model.mindir"), opset=0)
WITH_AIPP: dict[str, Any] = {"aipp": True, "input_type": "uint8"}
SMALL_AIPP = aipp_for(METADATA, height=128, width=256)
FREE_SIZE: dict[str, Any] = {
    "shapes": ((1, 3, -1, -1),),
    "dynamic_sizes": ((256, 256), (512, 512)),
}


def test_what_the_documents_allow_is_allowed() -> None:
    allowed: list[dict[str, Any]] = [
        {},
        {"soc": "Ascend910A"},
        {"cann": "9.1", "model": replace(SOURCE, opset=18)},
        {"shapes": ((-1, 3, 64, 128),), "dynamic_batch": (1, 2, 4)},
        FREE_SIZE,
        {"precisions": ("allow_mix_precision",)},
        {"soc": "Ascend910B3", "precisions": ("mixed_bfloat16",)},
        {"model": INT8, "int8": True, "shapes": ((1, 3, 64, 64), (4, 3, 64, 64))},
        {"tool": "lite", "model": MINDIR},
        {"tool": "both", "soc": "Ascend910B1"},
        WITH_AIPP,
        {**WITH_AIPP, "own_aipp": replace(SMALL_AIPP, height=256)},
        {**WITH_AIPP, **FREE_SIZE, "own_aipp": replace(SMALL_AIPP, height=0, width=0)},
    ]
    for changes in allowed:
        assert violations(replace(REQUEST, **changes)) == [], changes


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "mindir": ({"model": MINDIR}, "atc reads no MindIR.*--to onnx.*--tool lite"),
    "air": ({"model": replace(SOURCE, path=Path("m.air"))}, r"\.air is not converted"),
    "opset above": (
        {"model": replace(SOURCE, opset=17)},
        "opset 17: CANN 8.0 reads 11 to 15.*--opset 15",
    ),
    "opset below": ({"model": replace(SOURCE, opset=9)}, "opset 9.*--opset 11"),
    "uint8 graph": ({"model": replace(SOURCE, input_type="uint8")}, "graph's input is uint8"),
    "soc": ({"soc": "Ascend910B33"}, "no card that is known; did you mean Ascend910B3"),
    "cann": ({"cann": "8.5"}, "take the lower one"),
    "soc of cann": ({"soc": "Ascend310", "cann": "9.1"}, "CANN 9.1 do not name it.*7.0 or 8.0"),
    "channels": ({"shapes": ((1, 1, 64, 64),)}, "1 channel, but the model has 3"),
    "multiple": ({"shapes": ((1, 3, 100, 64),)}, "100 is no multiple of 16.*take 96 or 112"),
    "multiple of both sides": ({"shapes": ((1, 3, 500, 500),)}, "500 is no multiple of 16"),
    "multiple of profile": (
        {**FREE_SIZE, "dynamic_sizes": ((256, 256), (8, 64))},
        "--dynamic-size 8,64: 8 is no multiple of 16.*take 16;",
    ),
    "batch without -1": ({"dynamic_batch": (1, 2)}, "write -1 in front"),
    "-1 without batch": ({"shapes": ((-1, 3, 64, 64),)}, "there is no --dynamic-batch"),
    "size without -1": ({"dynamic_sizes": ((64, 64), (32, 32))}, "write -1,-1 at the end"),
    "-1 without size": ({"shapes": ((1, 3, -1, -1),)}, "there is no --dynamic-size"),
    "batch and size": (
        {**FREE_SIZE, "shapes": ((-1, 3, -1, -1),), "dynamic_batch": (1, 2)},
        "exclude each other",
    ),
    "one profile": (
        {"shapes": ((-1, 3, 64, 64),), "dynamic_batch": (4,)},
        "has 1 profiles: atc takes 2 to 100",
    ),
    "same profile": (
        {"shapes": ((-1, 3, 64, 64),), "dynamic_batch": (4, 4)},
        "names a profile twice",
    ),
    "large batch": (
        {"shapes": ((-1, 3, 64, 64),), "dynamic_batch": (1, 4096)},
        "4096: batches are 1 to 2048",
    ),
    "no precision": ({"precisions": ("fp8",)}, "'fp8' is none"),
    "both precisions": (
        {"precisions": ("force_fp16", "mixed_float16")},
        "force_fp16 is of --precision_mode, mixed_float16 of --precision_mode_v2.*keep mixed",
    ),
    "two precisions": ({"precisions": ("fp16", "origin")}, "is given 2 times"),
    "bf16": ({"precisions": ("mixed_bfloat16",)}, "Ascend310P3 computes no bfloat16"),
    "int8 of float": ({"int8": True}, "holds no QuantizeLinear"),
    "float of int8": ({"model": INT8}, "only after AMCT: add --int8"),
    "int8 free batch": (
        {
            "model": INT8,
            "int8": True,
            "shapes": ((-1, 3, 64, 64),),
            "dynamic_batch": (1, 2),
        },
        "--int8 with --dynamic-batch.*one .om",
    ),
    "int8 free size": (
        {"model": INT8, "int8": True, **FREE_SIZE},
        "--int8 with --dynamic-size",
    ),
    "int8 high precision": (
        {"model": INT8, "int8": True, "precisions": ("origin",)},
        "--int8 with --precision origin",
    ),
    "uint8 without aipp": ({"input_type": "uint8"}, "only AIPP takes it"),
    "aipp of float": ({"aipp": True}, "AIPP takes uint8 images"),
    "aipp of even light": (
        {
            **WITH_AIPP,
            "model": replace(
                SOURCE, metadata=replace(METADATA, config={"data": {"even_light": 1}})
            ),
        },
        "light was evened",
    ),
    "aipp size": (
        {**WITH_AIPP, "own_aipp": SMALL_AIPP},
        r"src_image_size is 256 x 128 \(width x height\), but the shape 256 x 256",
    ),
    "aipp free size": (
        {**WITH_AIPP, **FREE_SIZE, "own_aipp": SMALL_AIPP},
        "256 x 128 with --dynamic-size: write 0 and 0",
    ),
    "aipp crops": (
        {
            **WITH_AIPP,
            **FREE_SIZE,
            "own_aipp": replace(SMALL_AIPP, height=0, width=0, crops=True),
        },
        "crop and padding must be false",
    ),
    "aipp channels": (
        {**WITH_AIPP, "own_aipp": aipp_for(GREY, height=256, width=256)},
        "YUV400_U8 has 1 channel, the model 3: write RGB888_U8",
    ),
    "aipp format": (
        {
            **WITH_AIPP,
            "own_aipp": parse_aipp(
                "aipp_op { aipp_mode: static input_format: YUV420SP_U8 }", where="own.cfg"
            ),
        },
        "input_format is 'YUV420SP_U8': write YUV400_U8",
    ),
    "aipp dynamic": (
        {
            **WITH_AIPP,
            "own_aipp": parse_aipp(
                "aipp_op { aipp_mode: dynamic input_format: RGB888_U8 }", where="own.cfg"
            ),
        },
        "the runner sets no dynamic AIPP",
    ),
    "lite on 910A": (
        {"tool": "both", "soc": "Ascend910A"},
        "MindSpore Lite 2.10 does not support Ascend910A.*--tool atc",
    ),
    "another shape of mindir": (
        {"tool": "lite", "model": replace(MINDIR, fixed_shape=(2, 3, 256, 256))},
        "MindIR file is for 2,3,256,256 alone",
    ),
    "lite int8": ({"tool": "both", "model": INT8, "int8": True}, "--int8 by MindSpore Lite"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_told_with_its_cure(name: str) -> None:
    changes, told = BROKEN[name]
    faults = violations(replace(REQUEST, **changes))
    assert len(faults) == 1, faults
    assert re.search(told, faults[0]), faults


def default_of(command: Callable[..., None], option: str) -> Any:
    return inspect.signature(command).parameters[option].default


@pytest.mark.parametrize("written_by", [export, quantize])
def test_the_file_of_export_as_it_is_suits_commands_as_it_is(
    written_by: Callable[..., None],
) -> None:
    model = replace(SOURCE, opset=default_of(written_by, "opset"))
    request = replace(REQUEST, model=model, cann=default_of(commands, "cann"))
    assert violations(request) == []


def test_all_broken_rules_are_told_at_once() -> None:
    request = replace(
        REQUEST,
        model=replace(INT8, opset=17),
        soc="Ascend911",
        int8=True,
        shapes=((1, 1, 100, 256),),
        dynamic_batch=(1, 2),
        precisions=("force_fp32", "fp16"),
        aipp=True,
    )
    told = "\n".join(violations(request))
    for part in (
        "Ascend911", "opset 17", "1 channel,", "multiple of 16", "-1 in front",
        "--int8 with --dynamic-batch", "exclude each other", "--int8 with --precision force_fp32",
        "AIPP takes uint8",
    ):  # fmt: skip
        assert part in told
    assert len(violations(request)) == 9
