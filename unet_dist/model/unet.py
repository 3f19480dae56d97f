"""The U-Net of Ronneberger et al. (MICCAI 2015, arXiv:1505.04597), with "same" convolutions.

Differences from the paper: padding keeps the size, a norm follows each convolution, and width,
depth, norm, upsampling and attention are settings. Any height and width is accepted: the input is
padded at its lower and right edge to a multiple of ``stride * 2 ** depth``, and the output is
cropped back.
"""

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.common.initializer import Constant, HeNormal
from numpy.typing import NDArray

from unet_dist.config import ModelConfig
from unet_dist.model.fake_quant import QuantConv2d, QuantConv2dTranspose, RoundedInput
from unet_dist.model.norm import make_norm

OPEN_GATE = 3.0
"""psi's first bias: a gate lets nearly all through at first (sigmoid(3) is 0.95), as the paper asks
for; 3 is the number in its authors' code."""


def _conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    bias: bool,
    stride: int = 1,
    bias_init: float = 0.0,
    fake_quant: bool = False,
) -> nn.Cell:
    kind = QuantConv2d if fake_quant else nn.Conv2d
    return kind(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        pad_mode="pad",
        padding=kernel // 2 if stride == 1 else 0,
        has_bias=bias,
        weight_init=HeNormal(mode="fan_in", nonlinearity="relu"),
        bias_init=Constant(bias_init),
    )


class ConvBlock(nn.Cell):
    """Two times convolution 3x3, norm, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, config: ModelConfig, all_reduce: nn.Cell | None
    ) -> None:
        super().__init__()
        # Where a norm with its own shift follows, the convolutions need no bias.
        bias, quant = config.norm == "none", config.fake_quant
        self.body = nn.SequentialCell(
            _conv(in_channels, out_channels, 3, bias=bias, fake_quant=quant),
            make_norm(config.norm, out_channels, all_reduce),
            nn.ReLU(),
            _conv(out_channels, out_channels, 3, bias=bias, fake_quant=quant),
            make_norm(config.norm, out_channels, all_reduce),
            nn.ReLU(),
        )

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.body(x)


class ResizeConv(nn.Cell):
    """Nearest neighbour to twice the size, then a convolution 3x3."""

    def __init__(self, in_channels: int, out_channels: int, *, fake_quant: bool) -> None:
        super().__init__()
        self.conv = _conv(in_channels, out_channels, 3, bias=True, fake_quant=fake_quant)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        height, width = x.shape[2] * 2, x.shape[3] * 2
        return self.conv(ops.ResizeNearestNeighbor((height, width))(x))


class AttentionGate(nn.Cell):
    """The additive gate on a skip connection of Oktay et al. (arXiv:1804.03999): ``skip * weight``
    with ``weight = sigmoid(psi(relu(norm(W_x skip + W_g up + b))))``, one number for each pixel.

    ``up``, the decoder's features after upsampling, is the paper's gating signal g, which comes
    from before it: both inputs are then of one resolution, and nothing need be resampled, neither
    the skip down to g nor the weights up again. ``W_x`` and ``W_g`` are one convolution 1x1 of
    both joined, which is the same sum; its norm, of the configured kind, has the shift ``b``.
    """

    def __init__(self, channels: int, config: ModelConfig, all_reduce: nn.Cell | None) -> None:
        super().__init__()
        inner, quant = max(1, channels // 2), config.fake_quant
        self.body = nn.SequentialCell(
            _conv(2 * channels, inner, 1, bias=config.norm == "none", fake_quant=quant),
            make_norm(config.norm, inner, all_reduce),
            nn.ReLU(),
            _conv(inner, 1, 1, bias=True, bias_init=OPEN_GATE, fake_quant=quant),
            nn.Sigmoid(),
        )

    def construct(self, skip: ms.Tensor, up: ms.Tensor) -> ms.Tensor:
        return skip * self.body(ops.concat((skip, up), 1))


def _upsampling(config: ModelConfig, in_channels: int, out_channels: int) -> nn.Cell:
    if config.upsample == "resize":
        return ResizeConv(in_channels, out_channels, fake_quant=config.fake_quant)
    return _transposed(in_channels, out_channels, 2, fake_quant=config.fake_quant)


def _transposed(in_channels: int, out_channels: int, factor: int, *, fake_quant: bool) -> nn.Cell:
    kind = QuantConv2dTranspose if fake_quant else nn.Conv2dTranspose
    return kind(
        in_channels,
        out_channels,
        factor,
        stride=factor,
        pad_mode="valid",
        has_bias=True,
        weight_init=HeNormal(mode="fan_in", nonlinearity="relu"),
    )


class UNet(nn.Cell):
    """Logits of each pixel: ``[N, C, H, W] -> [N, K, H, W]``, K = 1 for two classes.

    ``keep`` ``[N, channels of the deepest level]`` scales that level's channels. In training it
    is the dropout mask, drawn by the loader from the sample's own random numbers, so that
    dropout too does not depend on the number of ranks; in evaluation it is all ones.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        in_channels: int,
        classes: int,
        all_reduce: nn.Cell | None = None,
    ) -> None:
        super().__init__()
        widths = [config.width * 2**level for level in range(config.depth + 1)]
        self.depth = config.depth
        self.multiple = config.stride * 2**config.depth
        self.deepest_channels = widths[-1]
        image_channels = in_channels
        self.stem: nn.Cell = nn.Identity()
        if config.stride > 1:
            # As many channels as a step has numbers, so that nothing need be lost.
            channels = in_channels * config.stride**2
            self.stem = _conv(
                in_channels,
                channels,
                config.stride,
                bias=True,
                stride=config.stride,
                fake_quant=config.fake_quant,
            )
            in_channels = channels
        inputs = [in_channels, *widths[:-1]]
        self.encoder = nn.CellList(
            [ConvBlock(i, o, config, all_reduce) for i, o in zip(inputs, widths, strict=True)]
        )
        self.upsampling = nn.CellList(
            [_upsampling(config, 2 * width, width) for width in widths[:-1]]
        )
        self.decoder = nn.CellList(
            [ConvBlock(2 * width, width, config, all_reduce) for width in widths[:-1]]
        )
        # What an encoder hands on is rounded before a decoder's convolution rounds it again, as a
        # deployed network does.
        self.skips = nn.CellList(
            [RoundedInput() if config.fake_quant else nn.Identity() for _ in range(config.depth)]
        )
        self.attention = (
            nn.CellList([AttentionGate(width, config, all_reduce) for width in widths[:-1]])
            if config.attention == "gate"
            else None
        )
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        outputs = 1 if classes == 2 else classes
        self.head = (
            _conv(config.width, outputs, 1, bias=True, fake_quant=config.fake_quant)
            if config.stride == 1
            else _transposed(config.width, outputs, config.stride, fake_quant=config.fake_quant)
        )

        self.refine = (
            UNet(
                config.model_copy(update={"passes": 1}),
                in_channels=image_channels + outputs,
                classes=classes,
                all_reduce=all_reduce,
            )
            if config.passes == 2
            else None
        )

    def construct(self, x: ms.Tensor, keep: ms.Tensor) -> ms.Tensor:
        return self.stages(x, keep)[-1]

    def stages(self, x: ms.Tensor, keep: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """The logits after each pass; the last are the answer."""
        first = self._one_pass(x, keep)
        if self.refine is None:
            return (first,)
        draft = ops.cast(probabilities(first), x.dtype)
        return first, self.refine(ops.concat((x, draft), 1), keep)

    def _one_pass(self, x: ms.Tensor, keep: ms.Tensor) -> ms.Tensor:
        height, width = x.shape[2], x.shape[3]
        x = self.stem(_pad_to_multiple(x, self.multiple))
        skips = []
        for level in range(self.depth):
            x = self.skips[level](self.encoder[level](x))
            skips.append(x)
            x = self.pool(x)
        x = self.encoder[self.depth](x)
        x = x * ops.cast(keep, x.dtype).reshape(keep.shape[0], keep.shape[1], 1, 1)
        for level in range(self.depth - 1, -1, -1):
            skip, up = skips[level], self.upsampling[level](x)
            if self.attention is not None:
                skip = self.attention[level](skip, up)
            x = self.decoder[level](ops.concat((skip, up), 1))
        return self.head(x)[:, :, :height, :width]


def _pad_to_multiple(x: ms.Tensor, multiple: int) -> ms.Tensor:
    """Repeats the last row and column, which a norm sees as more of the same image."""
    rows = -x.shape[2] % multiple
    columns = -x.shape[3] % multiple
    if rows > 0:
        x = ops.concat((x, ops.tile(x[:, :, -1:, :], (1, 1, rows, 1))), 2)
    if columns > 0:
        x = ops.concat((x, ops.tile(x[:, :, :, -1:], (1, 1, 1, columns))), 3)
    return x


def probabilities(logits_nkhw: ms.Tensor) -> ms.Tensor:
    """In float32: of the foreground, or of each class."""
    logits = ops.cast(logits_nkhw, ms.float32)
    return ops.sigmoid(logits) if logits.shape[1] == 1 else ops.softmax(logits, 1)


def build_unet(
    config: ModelConfig,
    *,
    in_channels: int,
    classes: int,
    seed: int,
    all_reduce: nn.Cell | None = None,
) -> UNet:
    """A U-Net whose first weights depend on the seed alone, on every device."""
    ms.set_seed(seed)
    net = UNet(config, in_channels=in_channels, classes=classes, all_reduce=all_reduce)
    for parameter in net.get_parameters():
        parameter.init_data()
    return net


def put(parameter: ms.Parameter, array: NDArray[np.float32]) -> None:
    """Gives a parameter new values, also for graphs that were compiled with it.

    Parameter.set_data looks as if it did: a compiled graph goes on with the old values, and its
    updates are no longer seen outside (MindSpore 2.10 on the CPU).
    """
    ops.assign(parameter, ms.Tensor(np.array(array, np.float32)))


def parameter_count(net: nn.Cell) -> int:
    return sum(parameter.size for parameter in net.trainable_params())


def set_precision(net: UNet, amp: str) -> None:
    """Convolutions in half precision, norms in float32, as MindSpore's O2 does.

    The weights stay float32 parameters and are cast where they are used.
    """
    if amp == "off":
        return
    half = {"fp16": ms.float16, "bf16": ms.bfloat16}[amp]
    net.to_float(half)
    for _, cell in net.cells_and_names():
        if getattr(cell, "is_norm", False):
            cell.to_float(ms.float32)
