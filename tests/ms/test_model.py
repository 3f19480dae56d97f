from collections.abc import Iterator

import mindspore as ms
import numpy as np
import pytest

from unet_dist.config import ModelConfig
from unet_dist.model.unet import (
    AttentionGate,
    UNet,
    build_unet,
    parameter_count,
    probabilities,
    put,
    set_precision,
)


@pytest.fixture
def _eager() -> Iterator[None]:
    """Operator by operator, without compiling."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


def net_of(*, in_channels: int = 3, classes: int = 2, **settings: object) -> UNet:
    config = ModelConfig.model_validate({"width": 4, "depth": 2, **settings})
    return build_unet(config, in_channels=in_channels, classes=classes, seed=0)


def output(net: UNet, x_nchw: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    keep = np.ones((len(x_nchw), net.deepest_channels), np.float32) if keep is None else keep

    @ms.jit
    def forward(x, k):  # type: ignore[no-untyped-def]
        return net(x, k)

    return np.asarray(forward(ms.Tensor(x_nchw), ms.Tensor(keep)).asnumpy())


def image(height: int, width: int, channels: int = 3, images: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal((images, channels, height, width)).astype(np.float32)


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
@pytest.mark.parametrize("upsample", ["transpose", "resize"])
def test_every_block_kind_keeps_the_size(norm: str, upsample: str) -> None:
    net = net_of(norm=norm, upsample=upsample)
    assert output(net, image(16, 16)).shape == (1, 1, 16, 16)


@pytest.mark.parametrize(("height", "width"), [(17, 16), (13, 19), (5, 7), (1, 1)])
def test_odd_sizes_keep_their_size(height: int, width: int) -> None:
    assert output(net_of(), image(height, width)).shape == (1, 1, height, width)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 19)])
def test_a_strided_net_predicts_every_pixel(stride: int, height: int, width: int) -> None:
    y = output(net_of(stride=stride), image(height, width))
    assert y.shape == (1, 1, height, width)
    corner = y[0, 0, :stride, :stride]
    assert len(np.unique(corner)) == stride**2


@pytest.mark.parametrize("classes", [2, 4])
def test_the_second_pass_sees_the_image_and_the_first_ones_probabilities(classes: int) -> None:
    net = net_of(passes=2, classes=classes)
    assert net.refine is not None
    x, keep = ms.Tensor(image(16, 16)), ms.Tensor(np.ones((1, net.deepest_channels), np.float32))
    first, last = net.stages(x, keep)
    draft = probabilities(first)
    again = net.refine(ms.ops.concat((x, draft), 1), keep)
    assert np.allclose(again.asnumpy(), last.asnumpy(), atol=1e-5)
    blank = net.refine(ms.ops.concat((x, 0 * draft), 1), keep)
    assert not np.allclose(blank.asnumpy(), last.asnumpy(), atol=1e-3)
    assert np.allclose(output(net, image(16, 16)), last.asnumpy(), atol=1e-5)


def test_input_channels_and_classes() -> None:
    net = net_of(in_channels=1, classes=4)
    assert output(net, image(8, 8, channels=1)).shape == (1, 4, 8, 8)


def test_parameter_count_is_what_arithmetic_says() -> None:
    """One level down, width 2, one input channel: convolutions without bias, norms with two
    parameters a channel, an upsampling and a head with bias."""

    def block(i: int, o: int) -> int:
        return i * o * 9 + 2 * o + o * o * 9 + 2 * o

    expected = block(1, 2) + block(2, 4) + (4 * 2 * 4 + 2) + block(4, 2) + (2 * 1 + 1)
    assert parameter_count(net_of(in_channels=1, width=2, depth=1)) == expected
    # A gate: 2 + 2 channels to one, its norm, one to one with bias.
    gated = net_of(in_channels=1, width=2, depth=1, attention="gate")
    assert parameter_count(gated) == expected + 4 * 1 + 2 + (1 + 1)
    three = net_of(in_channels=1, width=2, depth=1, attention="gate", passes=2)
    assert parameter_count(three) == 2 * (expected + 8) + 2 * 9  # sees one channel more


@pytest.mark.usefixtures("_eager")
def test_an_attention_gate_is_the_formula_of_the_paper() -> None:
    gate = AttentionGate(4, ModelConfig(norm="none"), None)
    gate.set_train(False)
    skip, up = image(2, 3, channels=4), image(3, 2, channels=4).reshape(1, 4, 2, 3)
    draw = np.random.default_rng(1)
    w_x, w_g = draw.standard_normal((2, 2, 4)).astype(np.float32)
    b, psi, b_psi = np.float32([0.5, -0.25]), np.float32([1.5, -2.0]), np.float32(0.125)
    by_name = dict(gate.parameters_and_names())
    put(by_name["body.0.weight"], np.concatenate((w_x, w_g), 1)[:, :, None, None])
    put(by_name["body.0.bias"], b)
    put(by_name["body.3.weight"], psi[None, :, None, None])
    put(by_name["body.3.bias"], b_psi[None])
    expected = np.empty_like(skip)
    for row in range(2):
        for column in range(3):
            x, g = skip[0, :, row, column], up[0, :, row, column]
            logit = psi @ np.maximum(w_x @ x + w_g @ g + b, 0) + b_psi
            expected[0, :, row, column] = x / (1 + np.exp(-logit))
    found = gate(ms.Tensor(skip), ms.Tensor(up)).asnumpy()
    assert (found / skip).std() > 0.1  # so that equality says something
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.usefixtures("_eager")
def test_open_gates_are_none_and_shut_ones_hide_the_skips() -> None:
    plain, gated = (net_of(depth=1, attention=kind) for kind in ("none", "gate"))
    parameters = gated.parameters_dict()
    for name, parameter in plain.parameters_dict().items():
        put(parameters[name], parameter.asnumpy())
    x, keep = ms.Tensor(image(8, 8)), ms.Tensor(np.ones((1, 8), np.float32))
    expected, first = plain(x, keep).asnumpy(), gated(x, keep).asnumpy()
    # At first they are nearly open.
    assert 1e-3 < np.abs(first - expected).max() < 0.3 * np.abs(expected).max()
    outputs = []
    for bias in (100, -100):
        put(parameters["attention.0.body.3.bias"], np.float32([bias]))
        outputs.append(gated(x, keep).asnumpy())
    np.testing.assert_allclose(outputs[0], expected, atol=1e-6)
    # The decoder's first convolution reads the skip's four channels, then the other four.
    weight = np.array(plain.decoder[0].body[0].weight.asnumpy())
    weight[:, :4] = 0
    put(plain.decoder[0].body[0].weight, weight)
    np.testing.assert_allclose(outputs[1], plain(x, keep).asnumpy(), atol=1e-6)


def test_dropout_scales_the_deepest_channels() -> None:
    net = net_of()
    x = image(16, 16)
    dropped = np.zeros((1, net.deepest_channels), np.float32)
    assert not np.allclose(output(net, x), output(net, x, dropped))


def test_first_weights_depend_on_the_seed_alone() -> None:
    config = ModelConfig(width=4, depth=1)

    def weights(seed: int) -> bytes:
        net = build_unet(config, in_channels=1, classes=2, seed=seed)
        return b"".join(p.asnumpy().tobytes() for p in net.get_parameters())

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)


def test_half_precision_computes_near_the_same_with_float32_weights() -> None:
    whole, half = net_of(), net_of()
    set_precision(half, "fp16")
    assert {p.dtype for p in half.get_parameters()} == {ms.float32}
    x = image(16, 16)
    a, b = output(whole, x), output(half, x)
    assert 0 < np.abs(a - b).max() < 0.05


def test_group_norm_is_that_of_the_paper() -> None:
    from unet_dist.model.norm import EPSILON, GroupNorm

    x = image(6, 5, channels=4, images=2)
    grouped = x.reshape(2, 2, -1)
    mean, variance = grouped.mean(2, keepdims=True), grouped.var(2, keepdims=True)
    expected = ((grouped - mean) / np.sqrt(variance + EPSILON)).reshape(x.shape)
    norm = GroupNorm(4, 2)

    @ms.jit
    def forward(t):  # type: ignore[no-untyped-def]
        return norm(t)

    np.testing.assert_allclose(forward(ms.Tensor(x)).asnumpy(), expected, atol=1e-5)
