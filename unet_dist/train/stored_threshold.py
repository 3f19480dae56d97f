"""The threshold that goes with the weights of a checkpoint."""

from unet_dist.config import Config
from unet_dist.evaluate.on_ranks import threshold_for
from unet_dist.evaluate.score import ThresholdSource
from unet_dist.train.checkpoint import TrainState


def stored_threshold(state: TrainState, config: Config) -> tuple[float | None, ThresholdSource]:
    """The configured one, else the one chosen for these very weights at the best validation, else
    a half: later checkpoints hold the threshold of the best step, too."""
    if config.data.classes > 2 or config.evaluate.threshold > 0:
        return threshold_for(config, [])
    if state.threshold is None or state.step != state.best_step:
        return 0.5, "default"
    return state.threshold, "validation"
