"""How much memory of a card a training needs, from the shapes of its network alone."""

from unet_dist.config import Config

BYTES_PER_PARAMETER = 4 * 5
"""Weights, gradients, AdamW's two moments and the average, in float32."""
MAPS_PER_CONVOLUTION = 4
"""Activations kept for the backward pass of a convolution: its output, the normalised one, the one
after the ReLU, and a gradient of one of them."""
FIXED_GB = 1.2
"""The framework and its pools, of one rank on a CPU; of a card it was not measured."""


def predicted_memory_gb(config: Config, cards: int) -> float:
    """GB of a card for a training step; with ``augment.crop: 0``, which takes the largest image's
    size, only what does not depend on the size."""
    model = config.model
    side = config.augment.crop / model.stride
    images = config.train.batch / config.train.accumulation / cards
    bytes_per_value = 4 if config.train.amp == "off" else 2
    values = parameters = 0.0
    for level in range(model.depth + 1):
        channels = model.width * 2**level
        pixels = (side / 2**level) ** 2
        # Two convolutions down, and up again two after joining the skipped maps (but for the
        # deepest level), whose input is twice as wide.
        convolutions = 2 if level == model.depth else 4
        joined = 0 if level == model.depth else 2
        values += pixels * channels * (convolutions * MAPS_PER_CONVOLUTION + joined)
        parameters += channels**2 * 9 * (convolutions + (0 if level == model.depth else 1.5))
    values *= images * model.passes
    parameters *= model.passes
    return FIXED_GB + (values * bytes_per_value + parameters * BYTES_PER_PARAMETER) / 1e9
