"""On what predictions depend, told without loading a network."""

from collections.abc import Sequence
from typing import Any

from unet_dist.config import Config
from unet_dist.config_data import Section
from unet_dist.data.dataset import Normalisation
from unet_dist.train.checkpoint import Checkpoint, weights_digest

# All others count, so that a key which is new is not forgotten.
_OF_THE_TRAINING_IMAGES = frozenset(
    [
        "format",
        "root",
        "images",
        "masks",
        "fov_masks",
        "mask_suffix",
        "observer",
        "mask",
        "ignore",
        "cache_mb",
        "split",
    ]
)
_OF_TRAINING_AND_SPEED = frozenset(("every_epochs", "batch"))


def made_by(
    config: Config,
    members: Sequence[tuple[Checkpoint, Normalisation]],
    *,
    uncertainty: str,
) -> dict[str, Any]:
    """Every setting, weight and number on which the results for an image depend, flat and in
    JSON's own types, so that two of them can be compared by key."""
    return {
        "weights": [weights_digest({**c.weights, **c.average}) for c, _ in members],
        "threshold_on_validation": [c.state.threshold for c, _ in members],
        "normalisation": [[list(n.mean), list(n.std)] for _, n in members],
        "model": config.model.model_dump(mode="json"),
        "amp": config.train.amp,
        **_keys("data", config.data, without=_OF_THE_TRAINING_IMAGES),
        **_keys("evaluate", config.evaluate, without=_OF_TRAINING_AND_SPEED),
        "uncertainty": uncertainty,
    }


def _keys(section: str, values: Section, *, without: frozenset[str]) -> dict[str, Any]:
    dumped = values.model_dump(mode="json")
    return {f"{section}.{key}": value for key, value in dumped.items() if key not in without}
