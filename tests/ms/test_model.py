import mindspore as ms
import numpy as np
import pytest

from unet_dist.config import ModelConfig
from unet_dist.model.unet import UNet, build_unet, parameter_count, probabilities, set_precision


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
