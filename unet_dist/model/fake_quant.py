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
LEAST_SCALE = 2.0**-24
"""float16's least number."""


SHIFT = 1.5 * 2**23
"""Where float32 has whole numbers only: added and taken away again, it rounds, to even at halves.
ops.round takes six times as long on the CPU."""


def whole(x: ms.Tensor) -> ms.Tensor:
    """Rounded, for numbers below 2**22."""
    return (x + SHIFT) - SHIFT


def up_to_half(x: ms.Tensor) -> ms.Tensor:
    """The next number of float16 that is not smaller, in which deployed models keep scales."""
    near = ops.cast(ops.cast(x, ms.float16), ms.float32)
    # Seven ten-thousandths are between a half and one and a half steps of float16, whose least
    # step is 2**-24.
    step = ops.maximum(near * 0.0007, ms.Tensor(0.7 * 2.0**-24, ms.float32))
    above = ops.cast(ops.cast(near + step, ms.float16), ms.float32)
    return ops.select(ops.less(near, x), above, near)


def straight_through(x: ms.Tensor, rounded: ms.Tensor) -> ms.Tensor:
    """The value of ``rounded`` with the gradient of ``x``."""
    return x + ops.stop_gradient(rounded - x)


def rounded_weight(weight: ms.Tensor, channel_axis: int) -> ms.Tensor:
    axes = tuple(axis for axis in range(weight.ndim) if axis != channel_axis)
    largest = ops.stop_gradient(ops.abs(weight)).max(axis=axes, keepdims=True)
    scale = up_to_half(ops.maximum(largest / WEIGHT_LEVELS, ms.Tensor(LEAST_SCALE, ms.float32)))
    return straight_through(weight, whole(weight / scale) * scale)


class RoundedInput(nn.Cell):
    """Rounds to 256 levels of a range, and cuts off what is beyond."""

    def __init__(self) -> None:
        super().__init__()
        self.low = Parameter(initializer("zeros", 1), name="low", requires_grad=False)
        self.high = Parameter(initializer("zeros", 1), name="high", requires_grad=False)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        # As scalars: with tensors of one number, operators take ten times as long.
        low = ops.stop_gradient(self.low).reshape(())
        high = ops.stop_gradient(self.high).reshape(())
        scale = ops.maximum((high - low) / INPUT_LEVELS, ms.Tensor(LEAST_SCALE, ms.float32))
        zero_point = whole(-low / scale)
        # Nothing here but x itself has a gradient: that of the bounds would be a sum over all
        # pixels, which takes 30 times as long as the convolution.
        seen = ops.stop_gradient(x)
        bottom, top = -zero_point * scale, (INPUT_LEVELS - zero_point) * scale
        cut = ops.minimum(ops.maximum(seen, bottom), top)
        inside = ops.stop_gradient(ops.cast(ops.equal(cut, seen), ms.float32))
        return straight_through(x * inside, whole(cut * (1 / scale)) * scale)


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
