"""Rounded convolutions against the same in NumPy and in float32."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from unet_dist.config import Config, ModelConfig
from unet_dist.model.fake_quant import (
    QuantConv2d,
    QuantConv2dTranspose,
    RoundedInput,
    rounded_weight,
)
from unet_dist.model.unet import build_unet, put

rng = np.random.default_rng(0)


def rounded_u8(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """By the definition of ONNX's QuantizeLinear and DequantizeLinear with uint8."""
    scale = (high - low) / 255
    zero_point = np.rint(-low / scale)
    q = np.clip(np.rint(x / scale) + zero_point, 0, 255)
    return (q - zero_point) * scale


def rounded_s8(weight: np.ndarray, axis: int) -> np.ndarray:
    other = tuple(a for a in range(weight.ndim) if a != axis)
    exact = np.abs(weight).max(axis=other, keepdims=True) / 127
    near = exact.astype(np.float16)
    above = np.where(near < exact, np.nextafter(near, np.float16(np.inf)), near)
    scale = above.astype(np.float32)
    return np.clip(np.rint(weight / scale), -127, 127) * scale


def test_inputs_are_rounded_as_quantize_linear_does() -> None:
    cell = RoundedInput()
    cell.set_train(False)
    put(cell.low, np.array([-1.0], np.float32))
    put(cell.high, np.array([2.0], np.float32))
    x = rng.uniform(-2, 3, (2, 3, 4, 5)).astype(np.float32)
    assert np.allclose(cell(ms.Tensor(x)).asnumpy(), rounded_u8(x, -1, 2), atol=1e-6)


def test_beyond_the_range_there_is_no_gradient_and_within_it_is_one() -> None:
    cell = RoundedInput()
    cell.set_train(False)
    put(cell.low, np.array([-1.0], np.float32))
    put(cell.high, np.array([1.0], np.float32))

    def total(x):  # type: ignore[no-untyped-def]
        return cell(x).sum()

    gradient = ms.grad(total)(ms.Tensor([-3.0, -0.3, 0.7, 3.0], ms.float32))
    assert gradient.asnumpy().tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("quant", "plain", "kernel", "stride", "axis"),
    [(QuantConv2d, nn.Conv2d, 3, 1, 0), (QuantConv2dTranspose, nn.Conv2dTranspose, 2, 2, 1)],
)
def test_a_convolution_computes_with_rounded_numbers(
    quant: type, plain: type, kernel: int, stride: int, axis: int
) -> None:
    settings = {"stride": stride, "pad_mode": "valid", "has_bias": True, "bias_init": "ones"}
    rounded, exact = quant(2, 3, kernel, **settings), plain(2, 3, kernel, **settings)
    rounded.set_train(False)
    put(rounded.rounded_input.low, np.array([-1.0], np.float32))
    put(rounded.rounded_input.high, np.array([1.5], np.float32))
    weight = rng.standard_normal(exact.weight.shape).astype(np.float32)
    put(rounded.weight, weight)
    put(exact.weight, rounded_s8(weight, axis))
    x = rng.uniform(-1, 1.5, (2, 2, 6, 7)).astype(np.float32)
    y = exact(ms.Tensor(rounded_u8(x, -1, 1.5).astype(np.float32)))
    assert np.allclose(rounded(ms.Tensor(x)).asnumpy(), y.asnumpy(), atol=1e-5)


def test_channels_of_tiny_weights_are_rounded_and_those_of_none_stay() -> None:
    weight = rng.standard_normal((4, 2, 3, 3)).astype(np.float32)
    weight[1] *= 1e-3
    weight[2] *= 1e-5
    weight[3] = 0
    rounded = rounded_weight(ms.Tensor(weight), 0).asnumpy()
    assert np.allclose(rounded[:3], rounded_s8(weight[:3], 0), rtol=1e-5, atol=0)
    assert not rounded[3].any()


@pytest.mark.parametrize(
    ("settings", "of_gates"),
    [({"upsample": "transpose"}, 0), ({"upsample": "resize"}, 0), ({"attention": "gate"}, 4)],
)
def test_every_convolution_of_the_network_is_rounded(
    settings: dict[str, str], of_gates: int
) -> None:
    config = ModelConfig(width=4, depth=2, norm="none", fake_quant=True, stride=2, **settings)
    net = build_unet(config, in_channels=1, classes=2, seed=0)
    kinds = [type(cell) for _, cell in net.cells_and_names()]
    assert not {nn.Conv2d, nn.Conv2dTranspose} & set(kinds)
    # Two in each of 5 blocks, two upsamplings, the strided stem and the head.
    assert sum(kind in (QuantConv2d, QuantConv2dTranspose) for kind in kinds) == 14 + of_gates


def test_half_precision_is_refused() -> None:
    train = {"amp": "fp16", "start_from": "a"}
    with pytest.raises(ValueError, match="would round a second time"):
        Config.model_validate({"model": {"fake_quant": True}, "train": train})


def test_ranges_must_come_from_somewhere() -> None:
    with pytest.raises(ValueError, match=r"train\.start_from must hold"):
        Config.model_validate({"model": {"fake_quant": True}})
