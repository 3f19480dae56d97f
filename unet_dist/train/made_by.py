"""On what predictions depend, told without loading a network."""

from collections.abc import Sequence
from typing import Any

from unet_dist.config import Config
from unet_dist.data.dataset import Normalisation
from unet_dist.train.checkpoint import Checkpoint, weights_digest

_DATA_KEYS = ("channels", "classes", "fov", "resize")
_EVALUATE_KEYS = ("tile", "overlap", "tta", "threshold")


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
        **{f"data.{key}": getattr(config.data, key) for key in _DATA_KEYS},
        **{f"evaluate.{key}": getattr(config.evaluate, key) for key in _EVALUATE_KEYS},
        "uncertainty": uncertainty,
    }
