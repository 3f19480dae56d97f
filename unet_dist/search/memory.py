"""How much memory of a card a training needs, from the shapes of its network alone."""

from unet_dist.config import Config
from unet_dist.profiling.model_costs import costs_of

FIXED_GB = 1.2
"""The framework and its pools, of one rank on a CPU; of a card it was not measured."""


def predicted_memory_gb(config: Config, cards: int) -> float:
    """GB of a card for a training step; with ``augment.crop: 0``, which takes the largest image's
    size, only what does not depend on the size."""
    costs = costs_of(config)
    images = config.train.batch / config.train.accumulation / cards
    return FIXED_GB + (images * costs.activation_bytes + costs.state_bytes) / 1e9
