"""What kernels cost by their shapes, and where in the network they are by their names."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.profiling.made import MS, kernels_of, profile_of
from unet_dist.profiling.analysis import analyse
from unet_dist.profiling.describe import lines_of
from unet_dist.profiling.intervals import merged, of_pairs
from unet_dist.profiling.load import find_profiles, read_profiles
from unet_dist.profiling.operators import by_scope, by_type, launches_of, scope_of
from unet_dist.profiling.roofline import CHIPS, Chip, work_of
from unet_dist.profiling.write import write_text_folder
from unet_dist.report.profile import profile_html

ROUND = Chip(name="", cube_flops=1e12, cube_float32=0.5, vector_flops=1e11, bytes_per_s=1e10)


def signature(inputs, outputs):
    """Of shape, number format and layout of each tensor."""
    columns = [zip(*side, strict=True) for side in (inputs, outputs)]
    return "|".join(";".join(column) for side in columns for column in side)


X = ("4,8,32,32", "FLOAT16", "NCHW")
W = ("16,8,3,3", "FLOAT16", "NCHW")
Y = ("4,16,32,32", "FLOAT16", "NCHW")
# Each of the 4 x 32 x 32 places of the output multiplies 16 x 8 x 3 x 3 weights.
PRODUCTS = 4 * 32 * 32 * 16 * 8 * 3 * 3
VALUES = 4 * 8 * 32 * 32 + 16 * 8 * 3 * 3 + 4 * 16 * 32 * 32


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs"),
    [
        ("Conv2D", [X, W], [Y]),
        ("Conv2DBackpropInput", [("4", "INT32", "ND"), W, Y], [X]),
        ("Conv2DBackpropFilter", [X, ("4", "INT32", "ND"), Y], [W]),
    ],
)
def test_a_convolution_and_its_gradients_multiply_as_often(kind, inputs, outputs):
    found = work_of(kind, signature(inputs, outputs))
    assert found.flop == 2 * PRODUCTS
    indices = 4 * 4 if len(inputs) == 3 else 0  # of a size that is given as a tensor
    assert found.moved_bytes == 2 * VALUES + indices
    assert found.cube
    assert not found.float32


def test_packed_layouts_count_their_padding_and_no_more():
    packed = signature(
        [("4,1,32,32,16", "DT_BF16", "NC1HWC0"), ("9,1,16,16", "DT_BF16", "FRACTAL_Z")],
        [("4,1,32,32,16", "DT_BF16", "NC1HWC0")],
    )
    # 8 channels are padded to 16.
    assert work_of("Conv2D", packed).flop == 2 * (2 * PRODUCTS)


def test_a_transposed_convolution_multiplies_for_each_place_of_its_input():
    small, large = ("4,16,16,16", "FLOAT", "NCHW"), ("4,8,32,32", "FLOAT", "NCHW")
    weights = ("16,8,2,2", "FLOAT", "NCHW")
    found = work_of("Conv2DTranspose", signature([small, weights], [large]))
    assert found.flop == 2 * (4 * 16 * 16) * (16 * 8 * 2 * 2)
    assert found.float32


def test_products_of_matrices_count_alike_however_they_are_transposed():
    def product(a, b, out):
        shapes = [(text, "FLOAT16", "ND") for text in (a, b, out)]
        return work_of("MatMulV2", signature(shapes[:2], shapes[2:])).flop

    assert product("32,100", "100,10", "32,10") == pytest.approx(2 * 32 * 100 * 10)
    assert product("100,32", "10,100", "32,10") == pytest.approx(2 * 32 * 100 * 10)
    assert product("6,32,100", "6,100,10", "6,32,10") == pytest.approx(6 * 2 * 32 * 100 * 10)


def test_what_the_profiler_does_not_tell_is_not_known():
    assert work_of("Conv2D", "4,8,32,32") is None
    assert (
        work_of("ReLU", signature([("4,8", "UNDEFINED", "ND")], [("4,8", "FLOAT", "ND")])) is None
    )
    assert work_of("ReLU", signature([("N/A", "FLOAT", "ND")], [("4,8", "FLOAT", "ND")])) is None


def with_signatures(kinds, texts, ms):
    made = kernels_of(
        [(0, f"net/{kind}-op{n}", kind, "AI_CORE", n * 100 * MS, n * 100 * MS + ms * MS, "", "")
         for n, kind in enumerate(kinds)]
    )  # fmt: skip
    codes = np.arange(len(texts), dtype=np.int32) + len(made.texts)
    return replace(made, signature=codes, texts=(*made.texts, *texts))


def test_the_roof_is_what_takes_longer_at_the_peaks():
    relu = signature([Y], [Y])
    kernels = with_signatures(["Conv2D", "ReLU", "Strange"], [signature([X, W], [Y]), relu, ""], 1)
    groups = {group.name: group for group in by_type(kernels, ROUND)}
    convolution, activation = groups["Conv2D"], groups["ReLU"]
    # 9.4 MFLOP at 1 TFLOP/s are 9.4 us; 199 kB at 10 GB/s are 19.9 us.
    assert convolution.roof == "memory"
    assert convolution.roof_share == pytest.approx(2 * VALUES / 1e10 / 1e-3)
    assert activation.roof == "memory"
    assert activation.moved_bytes == 2 * 2 * 4 * 16 * 32 * 32
    fast = replace(ROUND, bytes_per_s=1e12)
    [dense] = [group for group in by_type(kernels, fast) if group.name == "Conv2D"]
    assert dense.roof == "compute"
    assert dense.roof_share == pytest.approx(2 * PRODUCTS / 1e12 / 1e-3)
    assert groups["Strange"].roof == "unknown"
    assert np.isnan(groups["Strange"].flop)


def test_the_roofline_survives_files_and_is_shown(tmp_path):
    kernels = with_signatures(["Conv2D"], [signature([X, W], [Y])], 1)
    made = profile_of(steps=1, kernels=kernels, simulated=False)
    write_text_folder(tmp_path / "rank0_ascend_ms", made)
    read = read_profiles(find_profiles([tmp_path]))
    analysis = analyse(read, chip="910A")
    [group] = analysis.types
    assert group.flop == 2 * PRODUCTS
    assert any("nominal peaks of 910A: 256 TFLOP/s" in line for line in lines_of(analysis))
    assert not any("above 100 %" in line for line in lines_of(analysis))
    faster = replace(analysis, types=(replace(group, roof_share=1.1),))
    assert any("above 100 % a cache" in line for line in lines_of(faster))
    assert "<th>roofline</th>" in profile_html(analysis, read)
    assert analysis.to_json()["types"][0]["roof"] == "memory"
    # Of the faster memory of a 910B a memory-bound kernel uses a smaller share.
    [other] = analyse(read, chip="910B").types
    ratio = CHIPS["910B"].bytes_per_s / CHIPS["910A"].bytes_per_s
    assert group.roof_share == pytest.approx(other.roof_share * ratio)


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("Default/net-UNet/encoder-CellList/2-ConvBlock/body-SequentialCell/0-Conv2d/Conv2D-op3",
         "encoder 2"),
        ("Gradients/Default/net-UNet/decoder-CellList/0-ConvBlock/body-SequentialCell/3-Conv2d/"
         "Grad_Conv2D/Conv2DBackpropInput-op1", "backward decoder 0"),
        ("Default/net-UNet/upsampling-CellList/1-Conv2dTranspose/Conv2DTranspose-op1", "decoder 1"),
        ("Default/network/encoder.3/conv/Conv2D-op1", "encoder 3"),
        ("Gradients/Default/net/up_2/gradConv2D/Conv2DBackpropFilter-op4", "backward decoder 2"),
        ("Default/down2-DownBlock/0-Conv2d/Conv2D-op1", "encoder 2"),
        ("Default/net/decoder_block_1/Conv2D-op1", "decoder 1"),
        ("Default/net-UNet/attention-CellList/1-AttentionGate/body-SequentialCell/0-Conv2d/"
         "Conv2D-op9", "attention 1"),
        ("Default/net-UNet/head-Conv2d/Conv2D-op3", "head"),
        ("Default/bottom-SequentialCell/0-Conv2d/Conv2D-op3", "bottom"),
        ("Default/net-UNet/refine-UNet/encoder-CellList/1-ConvBlock/ReLU-op1",
         "second pass, encoder 1"),
        ("Default/update-Adam/output/Mul-op2", "elsewhere"),
        ("Default/Conv2D-op4", "elsewhere"),
    ],
)  # fmt: skip
def test_names_tell_the_level_of_the_network(name, scope):
    assert scope_of(name) == scope


def test_levels_are_summed_or_said_to_be_unknown():
    [first, second, third] = by_scope(profile_of(steps=2).kernels)
    assert {first.name, second.name, third.name} == {"encoder 0", "encoder 1", "encoder 2"}
    assert first.total_ns == 2 * 20 * MS
    said = "the names of kernels carry no scope"
    assert not any(said in line for line in lines_of(analyse([profile_of()])))
    nameless = kernels_of([(0, "Default/Conv2D-op1", "Conv2D", "AI_CORE", 0, MS, "", "")])
    assert any(said in line for line in lines_of(analyse([profile_of(kernels=nameless)])))


def test_a_kernel_that_begins_while_data_moves_has_not_waited_for_it():
    kernels = kernels_of(
        [(0, "a", "Conv2D", "AI_CORE", begin * MS, (begin + 10) * MS, "", "")
         for begin in (0, 30, 60)]
    )  # fmt: skip
    begin = int(kernels.time_ns[0, 0])

    def span(first, last):
        return merged(of_pairs([(begin + first * MS, begin + last * MS)]))

    # From 10 to 30 and from 40 to 60 nothing is computed. The first kernel after comes as data
    # still moves, the second as soon as it has.
    found = launches_of(kernels, span(10, 60), span(10, 45))
    assert (found.gaps_ns, found.sending_ns) == (20 * MS, 20 * MS)
    waited = launches_of(kernels, span(10, 30), span(10, 30))
    assert (waited.gaps_ns, waited.sending_ns) == (20 * MS, 0)
