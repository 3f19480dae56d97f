"""What a U-Net costs, from its shapes alone."""

from dataclasses import dataclass

from unet_dist.config import Config

MAPS_PER_CONVOLUTION = 4
"""Activations kept for the backward pass of a convolution: its output, the normalised one, the one
after the ReLU, and a gradient of one of them."""
BYTES_PER_PARAMETER = 4 * 5
"""Weights, gradients, AdamW's two moments and the average, in float32."""
BACKWARD = 2.0
"""Of the forward pass: the gradients of inputs and of weights are a convolution each."""


@dataclass(frozen=True, kw_only=True)
class ModelCosts:
    parameters: float
    forward_flop: float
    """Of an image as the network sees it (``augment.crop``)."""
    activation_bytes: float
    """Kept of an image until its backward pass."""
    halo_bytes: float
    """Of an image that is cut into strips: what a card with a neighbour on both sides sends them,
    forward and backward: the row that each 3x3 convolution reads beyond the own strip."""
    exchanges: int
    """Of rows, one after the other: of each such convolution, forward and backward."""
    rows: int
    """Of the deepest level, into which an image can be cut."""

    @property
    def step_flop(self) -> float:
        """Of an image, forward and backward."""
        return self.forward_flop * (1 + BACKWARD)

    @property
    def gradient_bytes(self) -> float:
        return 4 * self.parameters

    @property
    def state_bytes(self) -> float:
        return BYTES_PER_PARAMETER * self.parameters


def costs_of(config: Config) -> ModelCosts:
    """With ``augment.crop: 0``, which takes the largest image's size, only what does not depend on
    the size."""
    model = config.model
    side = config.augment.crop / model.stride
    values = parameters = multiplications = 0.0
    rows = _rows_beyond(config, side)
    for level in range(model.depth + 1):
        channels = model.width * 2**level
        pixels = (side / 2**level) ** 2
        # Two convolutions down, and up again two after joining the skipped maps (but for the
        # deepest level), whose input is twice as wide.
        deepest = level == model.depth
        convolutions = 2 if deepest else 4
        weights = channels**2 * 9 * (convolutions + (0 if deepest else 1.5))
        maps = channels * (convolutions * MAPS_PER_CONVOLUTION + (0 if deepest else 2))
        if model.attention == "gate" and not deepest:
            # A convolution to half of the channels, one to a single number; and with a gradient
            # each: both inputs joined, the number, its sigmoid, the weighted skip.
            inner = max(1, channels // 2)
            weights += 2 * channels * inner + inner
            maps += inner * MAPS_PER_CONVOLUTION + 2 * (2 * channels + 2 + channels)
        values += pixels * maps
        parameters += weights
        multiplications += pixels * weights
    bytes_per_value = 4 if config.train.amp == "off" else 2
    return ModelCosts(
        parameters=parameters * model.passes,
        forward_flop=2 * multiplications * model.passes,
        activation_bytes=values * model.passes * bytes_per_value,
        # Of both neighbours; the input's row forward, the output's gradient backward.
        halo_bytes=2 * bytes_per_value * model.passes * sum(i + o for i, o in rows),
        exchanges=2 * len(rows) * model.passes,
        rows=max(1, int(side / 2**model.depth)),
    )


def _rows_beyond(config: Config, side: float) -> list[tuple[float, float]]:
    """Values of one row of the input and of the output of each 3x3 convolution. Convolutions whose
    stride is their size, and those of 1x1, read nothing beyond a strip."""
    model = config.model
    found = []
    for level in range(model.depth + 1):
        channels, width = model.width * 2**level, side / 2**level
        first = channels / 2 if level else config.data.in_channels * model.stride**2
        convolutions = [(first, channels), (channels, channels)]
        if level < model.depth:
            convolutions += [(2 * channels, channels), (channels, channels)]
            if model.upsample == "resize":
                convolutions.append((2 * channels, channels))
        found += [(inputs * width, outputs * width) for inputs, outputs in convolutions]
    return found
