"""The commands and files, compared with what was written by hand from the documents' syntax."""

import ast
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.deploy.ascend.small_models import GREY, METADATA, REQUEST, SOURCE
from unet_dist import __version__
from unet_dist.deploy.aipp import aipp_for, parse_aipp
from unet_dist.deploy.ascend_commands import SCRIPT, plan_conversion
from unet_dist.deploy.ascend_request import AscendRequest
from unet_dist.deploy.ascend_rules import violations
from unet_dist.errors import UserError

GOLDEN = Path(__file__).with_name("golden")
INT8 = replace(SOURCE, path=Path("exported/model_int8.onnx"), is_quantised=True)
SIZES = ((256, 256), (512, 512))


def golden(name: str) -> str:
    return (GOLDEN / name).read_text().replace("VERSION", __version__)


def planned(request: AscendRequest) -> dict[str, str]:
    assert violations(request) == []
    files = plan_conversion(request, model=f"../{request.model.path.name}").files
    return {undigested(name): undigested(text) for name, text in files.items()}


def undigested(text: str) -> str:
    """Of what depends on all options no value can be written by hand."""
    return re.sub(r"(x[0-9w]+)_[0-9a-f]{8}\b", r"\1_DIGEST", text)


def test_aipp_and_lite_for_a_fixed_shape() -> None:
    files = planned(
        replace(REQUEST, tool="auto", shapes=((1, 3, 256, 512),), aipp=True, input_type="uint8")
    )
    assert files[SCRIPT] == golden("aipp_and_lite.sh")
    assert files["aipp_256x512.cfg"] == golden("aipp_rgb.cfg")
    assert files["lite_model_Ascend310P3_1x3x256x512_DIGEST.ini"] == golden("aipp_and_lite.ini")


def test_eight_bits_go_through_amct_and_make_one_file_for_each_shape() -> None:
    request = replace(
        REQUEST,
        model=INT8,
        soc="Ascend910B3",
        cann="9.1",
        int8=True,
        shapes=((1, 3, 256, 256), (4, 3, 512, 512)),
        precisions=("mixed_float16",),
    )
    files = planned(request)
    assert files[SCRIPT] == golden("int8.sh")
    assert files["amct_convert.py"] == golden("amct_convert.py.txt")
    assert sorted(files) == [
        "amct_convert.py",
        "commands.sh",
        "model_int8_Ascend910B3_1x3x256x256_DIGEST.om.json",
        "model_int8_Ascend910B3_4x3x512x512_DIGEST.om.json",
    ]


def test_the_name_of_a_model_never_becomes_code() -> None:
    name = 'm");import os;x=("\nrm -r /\n.onnx'
    request = replace(
        REQUEST, model=replace(INT8, path=Path(name)), soc="Ascend910B3", cann="9.1", int8=True,
        precisions=("mixed_float16",), shapes=((1, 3, 256, 256),),
    )  # fmt: skip
    files = planned(request)
    kinds = [type(one).__name__ for one in ast.parse(files["amct_convert.py"]).body]
    assert kinds == ["Import", "Expr"]
    assert "rm" not in shlex.split(files[SCRIPT], comments=True)


def test_conversions_that_differ_in_anything_have_names_of_their_own() -> None:
    aipp = replace(REQUEST, aipp=True, input_type="uint8")
    own = parse_aipp(aipp_for(METADATA, height=256, width=256).to_text(), where="own.cfg")
    brighter = parse_aipp(own.to_text().replace("63", "62"), where="own.cfg")
    requests = [
        REQUEST,
        replace(REQUEST, soc="Ascend910A"),
        replace(REQUEST, cann="9.1"),
        replace(REQUEST, precisions=("mixed_float16",)),
        replace(REQUEST, input_type="float16"),
        aipp,
        replace(aipp, own_aipp=own),
        replace(aipp, own_aipp=brighter),
        replace(REQUEST, shapes=((4, 3, 256, 256),)),
        replace(REQUEST, shapes=((-1, 3, 256, 256),), dynamic_batch=(1, 2)),
        replace(REQUEST, shapes=((-1, 3, 256, 256),), dynamic_batch=(1, 4)),
        replace(REQUEST, model=replace(SOURCE, sha256="f" * 64)),
        replace(REQUEST, model=replace(SOURCE, metadata=replace(METADATA, threshold=0.4))),
    ]
    makes = [plan_conversion(one, model="../model.onnx").atc[0].makes for one in requests]
    assert len(set(makes)) == len(requests)
    again = plan_conversion(REQUEST, model="../elsewhere/model.onnx").atc[0].makes
    assert again == makes[0]


def test_profiles_of_batches_with_an_older_precision_and_half_inputs() -> None:
    request = replace(
        REQUEST,
        soc="Ascend910A",
        shapes=((-1, 3, 256, 256),),
        dynamic_batch=(1, 2, 4),
        precisions=("allow_mix_precision",),
        input_type="float16",
    )
    assert planned(request)[SCRIPT] == golden("free_batch.sh")


def test_profiles_of_sizes() -> None:
    request = replace(REQUEST, shapes=((1, 3, -1, -1),), dynamic_sizes=SIZES)
    assert planned(request)[SCRIPT] == golden("free_size.sh")
    files = planned(replace(request, tool="lite", precisions=("mixed_float16",)))
    assert files["lite_model_Ascend310P3_1x3xhxw_DIGEST.ini"] == golden("lite_free_size.ini")
    grey = replace(SOURCE, metadata=GREY)
    files = planned(
        replace(request, model=grey, shapes=((1, 1, -1, -1),), aipp=True, input_type="uint8")
    )
    assert files["aipp_hxw.cfg"] == golden("aipp_grey_free_size.cfg")


def test_lite_is_left_out_with_the_reason_where_it_does_not_support_the_card() -> None:
    request = replace(REQUEST, soc="Ascend910A", tool="auto")
    assert violations(request) == []
    plan = plan_conversion(request, model="../model.onnx")
    assert plan.lite == ()
    assert "left out: MindSpore Lite 2.10 does not support Ascend910A" in plan.notes[0]


@pytest.mark.parametrize("normalises", [False, True])
def test_aipp_computes_in_half_precision_what_the_host_computes(normalises: bool) -> None:
    metadata = replace(
        METADATA, mean=(0.5384, 0.2718, 0.0314), std=(0.11, 0.07, 0.3), normalises=normalises
    )
    level = np.arange(256)
    for number, channel in enumerate(aipp_for(metadata, height=16, width=16).channels):
        centred = np.float16(level - channel.mean) - np.float16(channel.minimum)
        on_card = (centred * np.float16(channel.factor)).astype(np.float64)
        wanted = level / 255
        if not normalises:
            wanted = (wanted - metadata.mean[number]) / metadata.std[number]
        # Three roundings to 11 bits.
        assert np.abs(on_card - wanted).max() < 3 * 2**-11 * np.abs(wanted).max()


def test_an_aipp_file_is_read_as_it_was_written() -> None:
    aipp = aipp_for(METADATA, height=256, width=512)
    read = parse_aipp(aipp.to_text() + "# crop: true\n", where="own.cfg")
    assert (read.input_format, read.height, read.width, read.mode) == (
        "RGB888_U8", 256, 512, "static"
    )  # fmt: skip
    assert read.crops is False
    assert [one.mean for one in read.channels] == [127, 63, 31]
    assert [one.minimum for one in read.channels] == [0.5, 0.75, 0.875]
    assert read.to_text() == aipp.to_text() + "# crop: true\n"
    with pytest.raises(UserError, match="holds 2 aipp_op"):
        parse_aipp(aipp.to_text() * 2, where="own.cfg")
    with pytest.raises(UserError, match="cannot be read"):
        parse_aipp("aipp_op { input_format: YUV400_U8 mean_chn_0: much }", where="own.cfg")
