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
    for level in range(model.depth + 1):
        channels = model.width * 2**level
        pixels = (side / 2**level) ** 2
        # Two convolutions down, and up again two after joining the skipped maps (but for the
        # deepest level), whose input is twice as wide.
        deepest = level == model.depth
        convolutions = 2 if deepest else 4
        weights = channels**2 * 9 * (convolutions + (0 if deepest else 1.5))
        values += pixels * channels * (convolutions * MAPS_PER_CONVOLUTION + (0 if deepest else 2))
        parameters += weights
        multiplications += pixels * weights
    bytes_per_value = 4 if config.train.amp == "off" else 2
    return ModelCosts(
        parameters=parameters * model.passes,
        forward_flop=2 * multiplications * model.passes,
        activation_bytes=values * model.passes * bytes_per_value,
    )
