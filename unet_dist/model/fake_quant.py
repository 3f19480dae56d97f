"""Convolutions that see 8-bit numbers in training (Jacob et al., CVPR 2018, arXiv:1712.05877).

What a quantised network would compute is imitated in float32, forward only: backward, rounding
counts as the identity (straight-through, Bengio et al., arXiv:1308.3432), so the weights learn to
live with it. Only plain operators are used, since MindSpore 2.10 has none of its own for this on
the CPU. Inputs have 256 levels in a range that was observed before, 0 among them; weights 255 about
0, for each output channel. These are the grids of ONNX's QuantizeLinear with uint8 and int8.
"""

import mindspore as ms
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import initializer

INPUT_LEVELS = 255
WEIGHT_LEVELS = 127
LEAST_SCALE = 1e-8


SHIFT = 1.5 * 2**23
"""Where float32 has whole numbers only: added and taken away again, it rounds, to even at halves.
ops.round takes six times as long on the CPU."""


def whole(x: ms.Tensor) -> ms.Tensor:
    """Rounded, for numbers below 2**22."""
    return (x + SHIFT) - SHIFT


def straight_through(x: ms.Tensor, rounded: ms.Tensor) -> ms.Tensor:
    """The value of ``rounded`` with the gradient of ``x``."""
    return x + ops.stop_gradient(rounded - x)


def rounded_weight(weight: ms.Tensor, channel_axis: int) -> ms.Tensor:
    axes = tuple(axis for axis in range(weight.ndim) if axis != channel_axis)
    largest = ops.stop_gradient(ops.abs(weight)).max(axis=axes, keepdims=True)
    scale = ops.maximum(largest / WEIGHT_LEVELS, ms.Tensor(LEAST_SCALE, ms.float32))
    return straight_through(weight, whole(weight / scale) * scale)


class RoundedInput(nn.Cell):
    """Rounds to 256 levels of a range, and cuts off what is beyond."""

    def __init__(self) -> None:
        super().__init__()
        self.low = Parameter(initializer("zeros", 1), name="low", requires_grad=False)
        self.high = Parameter(initializer("zeros", 1), name="high", requires_grad=False)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        low, high = self.low.value(), self.high.value()
        scale = ops.maximum((high - low) / INPUT_LEVELS, ms.Tensor(LEAST_SCALE, ms.float32))
        zero_point = whole(-low / scale)
        # What is cut off has no gradient.
        cut = ops.clamp(x, -zero_point * scale, (INPUT_LEVELS - zero_point) * scale)
        return straight_through(cut, whole(cut / scale) * scale)


class QuantConv2d(nn.Conv2d):
    """nn.Conv2d of a rounded input with rounded weights."""

    def __init__(self, *args: object, **keywords: object) -> None:
        super().__init__(*args, **keywords)
        self.rounded_input = RoundedInput()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        y = self.conv2d(self.rounded_input(x), rounded_weight(self.weight, 0))
        return self.bias_add(y, self.bias) if self.has_bias else y


class QuantConv2dTranspose(nn.Conv2dTranspose):
    """nn.Conv2dTranspose, ``valid`` with a stride of its kernel, in the same way."""

    def __init__(self, *args: object, **keywords: object) -> None:
        super().__init__(*args, **keywords)
        self.rounded_input = RoundedInput()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        batch, _, height, width = x.shape
        size = (batch, self.out_channels, height * self.stride[0], width * self.stride[1])
        y = self.conv2d_transpose(self.rounded_input(x), rounded_weight(self.weight, 1), size)
        return self.bias_add(y, self.bias) if self.has_bias else y
